/**
 * Counts the links of nodes outside the store paths anew, after the images below a layer changed.
 * A node of an image that has no name any more, because the machine's own file has its name or a name
 * above it, gets the row of a node that is gone.
 */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { readAll, type BindWork } from './bind-work.ts'
import type { Steps } from './steps.ts'
import type { NodeRow } from './layer-rows.ts'
import type { ImageIndex } from './image-index.ts'
import { toRow } from './nodes.ts'
import { firstOwn, isOwn, rootNode } from './numbers.ts'
import { releaseNode } from './release-node.ts'

export interface LinksWork extends Pick<BindWork, 'database' | 'now'> {
  index: ImageIndex
  /** Counts only the links of /nix/store. */
  onlyStore?: boolean
}

/** To be called in a transaction. */
export function* countLinks(work: LinksWork): Steps {
  // Not a call of itself: directories can be in each other without limit.
  while (yield* countOnce(work));
}

/** @returns whether nodes have lost names, so that others may have lost names, too */
function* countOnce(work: LinksWork): Steps<boolean> {
  const { database, now, index, onlyStore = false } = work
  const { store } = now
  const rows = new Map<NodeId, NodeRow>()
  const where = onlyStore ? `id = ${store ?? 0}` : `id < ${firstOwn}`
  for (const row of yield* readAll(database.eachNode(where))) rows.set(row.id, row)
  if (onlyStore && rows.size === 0) return false
  const entries = new Map<NodeId, Map<string, NodeId | undefined>>()
  const inDirectories = onlyStore ? `directory = ${store ?? 0}` : `directory < ${firstOwn}`
  const ownSubdirectories = new Map<NodeId, number>()
  for (const { directory, name, node } of yield* readAll(database.eachEntry(inDirectories))) {
    yield
    const known = entries.get(directory) ?? new Map<string, NodeId | undefined>()
    entries.set(directory, known.set(name.toString('latin1'), node))
    if (node === undefined || !isOwn(node) || database.readNode(node)?.kind !== 'directory')
      continue
    ownSubdirectories.set(directory, (ownSubdirectories.get(directory) ?? 0) + 1)
  }
  const names = new Map<NodeId, number>()
  const subdirectories = new Map<NodeId, number>()
  const kindOf = (node: NodeId) => {
    const row = rows.get(node)
    return (row && row.links > 0 ? row : now.node(node))?.kind
  }
  const pending: NodeId[] = []

  function addName(node: NodeId): void {
    const count = names.get(node) ?? 0
    names.set(node, count + 1)
    if (count === 0 && kindOf(node) === 'directory') pending.push(node)
  }

  function* childrenOf(directory: NodeId): Generator<NodeId> {
    const changed = entries.get(directory)
    for (let place = 0; ; place++) {
      const child = now.childAt(directory, place)
      if (!child) break
      if (!changed?.has(child.name.toString('latin1'))) yield child.node
    }
    for (const node of changed?.values() ?? []) if (node !== undefined) yield node
  }

  function* visit(directory: NodeId): Steps {
    let count = ownSubdirectories.get(directory) ?? 0
    // All store paths are there, because `undoStore` has put them back.
    if (directory === store) count += index.storeDirectories
    for (const child of childrenOf(directory)) {
      yield
      if (child >= firstOwn) continue
      if (kindOf(child) === 'directory') count++
      if (!onlyStore) addName(child)
    }
    subdirectories.set(directory, count)
  }

  if (onlyStore) {
    if (store !== undefined) yield* visit(store)
    const [row] = rows.values()
    const links = 2 + (subdirectories.get(store ?? 0) ?? 0)
    if (row && row.links > 0 && row.links !== links) database.writeNode({ ...row, links })
    return false
  }
  addName(rootNode)
  for (const { directory, node } of yield* readAll(database.eachEntry(`node < ${firstOwn}`))) {
    if (node !== undefined && isOwn(directory)) addName(node)
  }
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) yield* visit(next)

  if (yield* releaseUnreachable()) return true
  for (const node of now.nodes(true)) {
    yield* settle(node)
    yield
  }
  for (const node of rows.keys()) {
    if (!now.node(node)) yield* settle(node)
    yield
  }
  return false

  /** Releases the machine's own nodes in directories of images that are gone. @returns whether there were any */
  function* releaseUnreachable(): Steps<boolean> {
    let isAny = false
    for (const [directory, inside] of entries) {
      if (names.has(directory)) continue
      const own = [...inside.values()].filter((node) => node !== undefined).filter(isOwn)
      for (const name of inside.keys()) {
        database.deleteEntry(directory, Buffer.from(name, 'latin1'))
        yield
      }
      for (const node of own) yield* releaseNode(work, node)
      isAny ||= own.length > 0
    }
    return isAny
  }

  function* settle(node: NodeId): Steps {
    const [row, inImage] = [rows.get(node), now.node(node)]
    const count = names.get(node) ?? 0
    if (count === 0) {
      for (const name of entries.get(node)?.keys() ?? []) {
        database.deleteEntry(node, Buffer.from(name, 'latin1'))
        yield
      }
      const gone = row ?? (inImage && toRow(inImage))
      if (!inImage || !gone) database.deleteNode(node)
      else if (row?.links !== 0) {
        database.writeNode({ ...gone, links: 0, target: undefined, ownData: false })
      }
      return
    }
    // A removed file of the image has got another name.
    const live = row && row.links > 0 ? row : inImage && toRow(inImage)
    if (!live) return
    const links = live.kind === 'directory' ? 2 + (subdirectories.get(node) ?? 0) : count
    const isAsInImage = !row && inImage?.links === links
    if (!isAsInImage && row?.links !== links) database.writeNode({ ...live, links })
  }
}
