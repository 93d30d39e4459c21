/**
 * The numbers of nodes. A number is given once and never names another node later.
 *
 *     1 … 2^40 - 1      files that an image brings outside its store paths; the root directory is 1
 *     2^40 … 2^48 - 1   nodes that the machine made
 *     2^48 …            nodes of store paths: 2^48 + number of the path * 2^24 + place in the path
 *
 * The layer gives numbers to files by their paths, and to store paths by their names and NAR
 * hashes. Place 0 is the store path itself. Its other nodes follow in the order of its NAR. So the
 * number of a node of a store path does not depend on the rest of the image.
 */
import type { NodeId } from '../protocols/nfs/file-system.ts'

export const rootNode: NodeId = 1
export const firstOwn: NodeId = 2 ** 40
export const firstOfStore: NodeId = 2 ** 48
/** The last number that a machine's own node can have. */
export const lastOwn: NodeId = firstOfStore - 1
/** The room for the nodes of one store path. */
export const placesOfPath = 2 ** 24
/** There are numbers for more nodes, but the table of a larger store path would not fit in memory. */
export const maxNodesOfPath = 2 ** 22

/** Whether the machine made the node. */
export function isOwn(node: NodeId): boolean {
  return node >= firstOwn && node < firstOfStore
}

/** Whether the node is a store path of an image, or lies inside one. */
export function isOfStore(node: NodeId): boolean {
  return node >= firstOfStore
}

/** @param path the number of the store path in the layer */
export function storeNode(path: number, place: number): NodeId {
  return firstOfStore + path * placesOfPath + place
}

/** The reverse of `storeNode`, for a node that `isOfStore`. */
export function pathAndPlace(node: NodeId): { path: number; place: number } {
  const offset = node - firstOfStore
  return { path: Math.floor(offset / placesOfPath), place: offset % placesOfPath }
}
