/** Gives a machine files of its site, while its layer is bound for a boot. */
import { NetimageError } from '../errors.ts'
import type { NodeId, NodeKind } from '../protocols/nfs/file-system.ts'
import type { BootFilePath } from './bind-boot-files.ts'
import { namesNow } from './bind-names.ts'
import type { BindWork } from './bind-work.ts'
import { createClock } from './clock.ts'
import { placeInImage } from './directories.ts'
import { rootNode } from './numbers.ts'
import { releaseNode } from './release-node.ts'
import type { Steps } from './steps.ts'

/** Belongs to root on the machine. */
export interface SiteFile {
  path: BootFilePath
  mode: number
  bytes: Buffer
}

export interface SiteFiles {
  /** The machine gets all of these, unless it has something with the first path that is not an empty file. */
  ifMissing: readonly SiteFile[]
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
  work: Pick<BindWork, 'database' | 'now' | 'data' | 'given'>,
  { ifMissing, onProblem }: SiteFiles,
): Steps<boolean> {
  const { database, now, data, given } = work
  const time = createClock()
  const { childOf, nodeAt, rowOf } = namesNow(work)

  /** An empty file is what a loss of power leaves of a new one. */
  function isMissing(node: NodeId | undefined): boolean {
    if (node === undefined) return true
    const row = rowOf(node)
    if (row?.kind !== 'file') return false
    return row.ownData ? data.isEmpty(node) : (now.node(node)?.size ?? 0) === 0
  }

  /** @returns the directory, which is made if nothing has its name; undefined if something else has it */
  function directoryAt(names: readonly string[]): NodeId | undefined {
    let directory: NodeId = rootNode
    for (const name of names.map((each) => Buffer.from(each))) {
      const found = childOf(directory, name)
      if (found !== undefined && rowOf(found)?.kind !== 'directory') return undefined
      directory = found ?? add(directory, name, 'directory', 0o755)
    }
    return directory
  }

  function add(directory: NodeId, name: Buffer, kind: NodeKind, mode: number): NodeId {
    const id = given.node()
    const at = time()
    const isDirectory = kind === 'directory'
    database.writeNode({
      ...{ id, kind, mode, uid: 0, gid: 0, links: isDirectory ? 2 : 1 },
      ...{ device: { major: 0, minor: 0 }, parent: isDirectory ? directory : 0 },
      ...{ target: undefined, ownData: !isDirectory, accessed: at, modified: at, changed: at },
    })
    const isInImage = now.child(directory, name) !== undefined
    const known = database.readEntry(directory, name)
    const cookie = isInImage ? placeInImage : (known?.cookie ?? given.cookie())
    database.writeEntry(directory, { name, node: id, cookie })
    const above = rowOf(directory)
    const links = (above?.links ?? 0) + (isDirectory ? 1 : 0)
    if (above) database.writeNode({ ...above, links, modified: at, changed: at })
    return id
  }

  /** @returns whether a file that an image brings has lost a name */
  function* put({ path, mode, bytes }: SiteFile): Steps<boolean> {
    const names = [...path]
    const name = Buffer.from(names.pop() ?? '')
    const directory = directoryAt(names)
    const before = directory && childOf(directory, name)
    const isTaken = before !== undefined && rowOf(before)?.kind === 'directory'
    if (directory === undefined || isTaken) {
      onProblem(notADirectory(path, isTaken))
      return false
    }
    data.ofBytes(bytes, add(directory, name, 'file', mode))
    return before !== undefined && (yield* releaseNode(work, before))
  }

  let isCut = false
  const [first] = ifMissing
  if (first) {
    const node = nodeAt(first.path.map((name) => Buffer.from(name)))
    if (isMissing(node)) for (const file of ifMissing) isCut = (yield* put(file)) || isCut
  }
  return isCut
}

function notADirectory(path: BootFilePath, isTaken: boolean): NetimageError {
  const file = `/${path.join('/')}`
  const why = isTaken ? 'it is a directory there' : 'something above it is not a directory there'
  return new NetimageError('bad-state', `${file} cannot be given to the machine: ${why}`, {
    details: { file },
    hint: 'Move what is there away, on the machine, and restart it.',
  })
}
