/** Gives a machine files of its site, while its layer is bound for a boot. */
import { NetimageError } from '../errors.ts'
import type { NodeId } from '../protocols/nfs/file-system.ts'
import type { BootFilePath } from './bind-boot-files.ts'
import { createGiving, type GivingWork } from './bind-giving.ts'
import { namesNow } from './bind-names.ts'
import { giveSiteDirectory, type SiteDirectory } from './bind-site-directory.ts'
import type { Steps } from './steps.ts'

export interface SiteFile {
  path: BootFilePath
  mode: number
  bytes: Buffer
}

export interface SiteFiles {
  /**
   * The machine gets all of these or, if one of them cannot be given, none. It gets none also if it has
   * something with the first path that is not an empty file.
   */
  ifMissing: readonly SiteFile[]
  directory: SiteDirectory
  /** Is told of files that cannot be given. The machine boots without them. */
  onProblem: (error: NetimageError) => void
}

/**
 * To be called in a transaction, when nothing of a store path has a name elsewhere any more. Follows no
 * links.
 *
 * @returns as `removeBootFiles`
 */
export function* giveSiteFiles(
  work: GivingWork,
  { ifMissing, directory, onProblem }: SiteFiles,
): Steps<boolean> {
  const { now, data } = work
  const { childOf, nodeAt, rowOf } = namesNow(work)
  const { directoryAt, putFile } = createGiving(work)

  /** An empty file is what a loss of power leaves of a new one. */
  function isMissing(node: NodeId | undefined): boolean {
    if (node === undefined) return true
    const row = rowOf(node)
    if (row?.kind !== 'file') return false
    return row.ownData ? data.isEmpty(node) : (now.node(node)?.size ?? 0) === 0
  }

  function placeOf({ path }: SiteFile): { above: NodeId; name: Buffer } | undefined {
    const names = [...path]
    const name = Buffer.from(names.pop() ?? '')
    const above = directoryAt(names)
    const before = above && childOf(above, name)
    const isTaken = before !== undefined && rowOf(before)?.kind === 'directory'
    if (above !== undefined && !isTaken) return { above, name }
    onProblem(cannotGive(path, isTaken ? 'it is a directory there' : notADirectory))
    return undefined
  }

  function* putAll(files: readonly SiteFile[]): Steps<boolean> {
    const places = files.flatMap((file) => {
      const place = placeOf(file)
      return place ? [{ ...place, ...file }] : []
    })
    if (places.length < files.length) return false
    let isCut = false
    for (const { above, name, mode, bytes } of places) {
      isCut = (yield* putFile(above, name, mode, bytes)) || isCut
    }
    return isCut
  }

  const [first] = ifMissing
  const isDue = first && isMissing(nodeAt(first.path.map((name) => Buffer.from(name))))
  const isCut = isDue ? yield* putAll(ifMissing) : false
  const given = yield* giveSiteDirectory(work, directory)
  if (given === 'no directory') onProblem(cannotGive(directory.path, notADirectory))
  return given === 'cut' || isCut
}

const notADirectory = 'it, or something above it, is not a directory there'

function cannotGive(path: readonly string[], why: string): NetimageError {
  const file = `/${path.join('/')}`
  return new NetimageError('bad-state', `${file} cannot be given to the machine: ${why}`, {
    details: { file },
    hint: 'Move what is there away, on the machine, and restart it.',
  })
}
