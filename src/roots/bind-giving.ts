/** Makes files and directories outside the store while a layer is being bound. They belong to root. */
import type { NodeId, NodeKind } from '../protocols/nfs/file-system.ts'
import { namesNow } from './bind-names.ts'
import type { BindWork } from './bind-work.ts'
import { createClock } from './clock.ts'
import { placeInImage } from './directories.ts'
import { rootNode } from './numbers.ts'
import { releaseNode } from './release-node.ts'
import type { Steps } from './steps.ts'

export type GivingWork = Pick<BindWork, 'database' | 'now' | 'data' | 'given'>

export interface Giving {
  /**
   * Follows no links.
   *
   * @returns the directory, which is made if nothing has its name; undefined if something else has a name
   *   on the way
   */
  directoryAt: (names: readonly string[], mode?: number) => NodeId | undefined
  /** What has the name before, no directory, loses it. @returns as `releaseNode` */
  putFile: (directory: NodeId, name: Buffer, mode: number, bytes: Buffer) => Steps<boolean>
}

export function createGiving(work: GivingWork): Giving {
  const { database, now, data, given } = work
  const time = createClock()
  const { childOf, rowOf } = namesNow(work)

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

  return {
    directoryAt(names, mode = 0o755) {
      let directory: NodeId = rootNode
      for (const [place, name] of names.map((each) => Buffer.from(each)).entries()) {
        const found = childOf(directory, name)
        if (found !== undefined && rowOf(found)?.kind !== 'directory') return undefined
        const isLast = place === names.length - 1
        directory = found ?? add(directory, name, 'directory', isLast ? mode : 0o755)
      }
      return directory
    },
    *putFile(directory, name, mode, bytes) {
      const before = childOf(directory, name)
      data.ofBytes(bytes, add(directory, name, 'file', mode))
      return before !== undefined && (yield* releaseNode(work, before))
    },
  }
}
