/** Takes names away from the nodes of a layer that is being bound: see bind.ts. */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { readAll, type BindWork } from './bind-work.ts'
import type { Steps } from './steps.ts'
import { namesNow } from './bind-names.ts'
import { placeInImage } from './directories.ts'
import { toRow } from './nodes.ts'
import { isOfStore, isOwn } from './numbers.ts'

/**
 * Removes a name outside the store, and what has no other name, with everything in it.
 *
 * @returns as `releaseNode`
 */
export function* removeName(
  work: Pick<BindWork, 'database' | 'now'>,
  directory: NodeId,
  name: Buffer,
): Steps<boolean> {
  const { database, now } = work
  const { childOf, rowOf } = namesNow(work)
  const node = childOf(directory, name)
  if (node === undefined) return false
  const isInImage = now.child(directory, name) !== undefined
  if (!isInImage) database.deleteEntry(directory, name)
  else database.writeEntry(directory, { name, node: undefined, cookie: placeInImage })
  const above = rowOf(node)?.kind === 'directory' ? rowOf(directory) : undefined
  if (above) database.writeNode({ ...above, links: above.links - 1 })
  return yield* releaseNode(work, node)
}

/**
 * Takes one name from a node that is not of a store path. A node without a name is gone, with
 * everything in it. Directories can be in each other without limit, so this does not call itself.
 *
 * @returns whether a file that an image brings outside the store paths has lost a name
 */
export function* releaseNode(
  work: Pick<BindWork, 'database' | 'now'>,
  first: NodeId,
): Steps<boolean> {
  const pending = [first]
  let isOutside = false
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    yield
    isOutside ||= !isOwn(node)
    for (const inside of yield* releaseOne(work, node)) pending.push(inside)
  }
  return isOutside
}

/** @returns the nodes in a directory that is gone, which lose their names as well */
function* releaseOne(work: Pick<BindWork, 'database' | 'now'>, node: NodeId): Steps<NodeId[]> {
  const { database, now } = work
  const inside: NodeId[] = []
  const ofImage = isOwn(node) ? undefined : now.node(node)
  const row = database.readNode(node) ?? (ofImage && toRow(ofImage))
  if (!row || row.links === 0) return inside
  const links = row.kind === 'directory' ? 0 : row.links - 1
  if (links === 0 && row.kind === 'directory') {
    for (const entry of yield* readAll(database.eachEntry('directory = ?', node))) {
      database.deleteEntry(node, entry.name)
      if (entry.node === undefined) yield
      else if (isOfStore(entry.node)) yield* releaseStaying(work, entry.node)
      else inside.push(entry.node)
    }
  }
  if (links === 0 && isOwn(node)) database.deleteNode(node)
  else database.writeNode({ ...row, links, ownData: row.ownData && links > 0 })
  return inside
}

/** Takes a name from a file of a store path that the machine linked, if the link was not copied. */
function* releaseStaying(
  { database, now }: Pick<BindWork, 'database' | 'now'>,
  node: NodeId,
): Steps {
  yield* now.prepare(node)
  const row = database.readNode(node)
  if (!row) return
  if (row.links - 1 === now.node(node)?.links) database.deleteNode(node)
  else database.writeNode({ ...row, links: row.links - 1 })
}
