/** Where directories lie in the tree of a machine, and what may leave /nix/store. */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { failure } from './failure.ts'
import type { Nodes } from './nodes.ts'
import { isOfStore } from './numbers.ts'

export interface Ancestry {
  /** Whether `directory` is `other` or somewhere below `other`. @throws `ENAMETOOLONG` */
  isWithin(directory: NodeId, other: NodeId): boolean
  /**
   * The store paths of an image are put back as the image has them when a machine changes to another
   * image. So their files get no names outside /nix/store. The same holds for all directories in
   * /nix/store, because such files may be in them. Programs copy instead, as between two disks.
   *
   * @param from the directory that has the node; undefined for a further name of a file
   * @throws `EXDEV`, `ENAMETOOLONG`
   */
  mustStayInStore(node: NodeId, from: NodeId | undefined, to: NodeId): void
}

/**
 * How deep the two directories of a rename may be. A path has 4096 bytes at most, so a machine
 * cannot name a deeper directory, and the walk up from the directory must be short.
 */
const maxDepth = 2048

/** @param store the number of /nix/store; undefined if the image has no store paths */
export function createAncestry(nodes: Nodes, store: NodeId | undefined): Ancestry {
  function isWithin(directory: NodeId, other: NodeId): boolean {
    let at = directory
    for (let depth = 0; depth < maxDepth; depth++) {
      if (at === other) return true
      const { parent } = nodes.findDirectory(at)
      if (parent === at) return false
      at = parent
    }
    throw failure('ENAMETOOLONG', `a directory is more than ${maxDepth} directories deep`)
  }

  return {
    isWithin,
    mustStayInStore(node, from, to) {
      if (store === undefined || from === to) return
      const isDirectory = from !== undefined && nodes.find(node).kind === 'directory'
      const mayHold = isDirectory && isWithin(from, store)
      if ((!mayHold && !isOfStore(node)) || isWithin(to, store)) return
      throw failure('EXDEV', `node ${node} cannot have a name outside /nix/store`)
    },
  }
}
