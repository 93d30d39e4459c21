/** A directory in the root of a machine that has files of its site and nothing else, from each boot on. */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { createGiving, type GivingWork } from './bind-giving.ts'
import { namesIn, namesNow } from './bind-names.ts'
import { unsettledCuts } from './cuts.ts'
import { keyOf } from './bind-rows.ts'
import { removeName } from './release-node.ts'
import type { Steps } from './steps.ts'

export interface SiteDirectory {
  /** The names on the way from the root. */
  path: readonly string[]
  /** Of the directory, and of each file. */
  modes: { directory: number; file: number }
  /** Read one after the other. */
  files: Iterable<{ name: Buffer; bytes: Buffer }>
}

/**
 * Makes the directory if there are files, and removes what else is in it. Follows no links.
 *
 * @returns whether a file that an image brings outside the store paths has lost a name
 */
export function* giveSiteDirectory(
  work: GivingWork,
  { path, modes, files }: SiteDirectory,
): Steps<'cut' | 'done' | 'no directory'> {
  const { database, data } = work
  const { childOf, nodeAt, rowOf } = namesNow(work)
  const { directoryAt, putFile } = createGiving(work)
  const given = new Set<string>()
  let isCut = false
  let directory = nodeAt(path.map((name) => Buffer.from(name)))
  const cuts = new Set(unsettledCuts(database).map(({ node }) => node))

  /** Whether the machine has the file as it is to be. */
  function isSame(node: NodeId, bytes: Buffer): boolean {
    const row = rowOf(node)
    if (row?.kind !== 'file' || row.mode !== modes.file || row.uid !== 0 || row.gid !== 0)
      return false
    return row.ownData && !cuts.has(node) && data.hasBytes(node, bytes)
  }

  for (const { name, bytes } of files) {
    yield
    directory = directoryAt(path, modes.directory)
    if (directory === undefined) return 'no directory'
    given.add(keyOf(name))
    const before = childOf(directory, name)
    if (before !== undefined && isSame(before, bytes)) continue
    const isDirectory = before !== undefined && rowOf(before)?.kind === 'directory'
    if (isDirectory) isCut = (yield* removeName(work, directory, name)) || isCut
    isCut = (yield* putFile(directory, name, modes.file, bytes)) || isCut
  }
  const row = directory === undefined ? undefined : rowOf(directory)
  if (directory === undefined || row?.kind !== 'directory') return 'done'
  const { mode, uid, gid } = row
  if (mode !== modes.directory || uid !== 0 || gid !== 0) {
    database.writeNode({ ...row, mode: modes.directory, uid: 0, gid: 0 })
  }
  for (const name of yield* namesIn(work, directory)) {
    if (!given.has(keyOf(name))) isCut = (yield* removeName(work, directory, name)) || isCut
  }
  return isCut ? 'cut' : 'done'
}
