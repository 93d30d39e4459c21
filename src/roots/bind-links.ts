/**
 * Counts the links of nodes outside the store paths anew, after the images below a layer changed.
 * A node of an image that has no name any more, because the machine's own file has its name or a name
 * above it, gets the row of a node that is gone.
 */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { keyOf } from './bind-rows.ts'
import { readAll, type BindWork } from './bind-work.ts'
import type { LayerDatabase } from './database.ts'
import type { LayerImage } from './layer-image.ts'
import type { Steps } from './steps.ts'
import type { NodeRow } from './layer-rows.ts'
import type { ImageIndex } from './image-index.ts'
import { toRow } from './nodes.ts'
import { firstOwn, isOwn, rootNode } from './numbers.ts'
import { releaseNode } from './release-node.ts'

export interface LinksWork extends Pick<BindWork, 'database' | 'now'> {
  index: ImageIndex
}

/** Names that differ from those of an image: the nodes that they lead to, by name in Latin-1. */
type Changed = Map<string, NodeId | undefined>

/** Counts only the links of /nix/store: nothing else has changed. To be called in a transaction. */
export function* countStoreLinks({ database, now, index }: LinksWork): Steps {
  const { store } = now
  const row = store === undefined ? undefined : database.readNode(store)
  if (store === undefined || !row || row.links === 0) return
  // All store paths are there, because `undoStore` has put them back.
  let links = 2 + index.storeDirectories
  const changed: Changed = new Map()
  for (const { name, node } of yield* readAll(database.eachEntry(`directory = ${store}`))) {
    yield
    changed.set(keyOf(name), node)
    if (isOwnDirectory(database, node)) links++
  }
  for (const child of childrenOf(now, store, changed)) {
    yield
    if (child < firstOwn && now.node(child)?.kind === 'directory') links++
  }
  if (row.links !== links) database.writeNode({ ...row, links })
}

/** To be called in a transaction. */
export function* countLinks(work: LinksWork): Steps {
  // Not a call of itself: directories can be in each other without limit.
  while (yield* countOnce(work));
}

/** @returns whether nodes have lost names, so that others may have lost names, too */
function* countOnce(work: LinksWork): Steps<boolean> {
  const { database, now, index } = work
  const rows = new Map<NodeId, NodeRow>()
  for (const row of yield* readAll(database.eachNode(`id < ${firstOwn}`))) rows.set(row.id, row)
  const entries = new Map<NodeId, Changed>()
  const ownSubdirectories = new Map<NodeId, number>()
  const inImages = yield* readAll(database.eachEntry(`directory < ${firstOwn}`))
  for (const { directory, name, node } of inImages) {
    yield
    const known: Changed = entries.get(directory) ?? new Map()
    entries.set(directory, known.set(keyOf(name), node))
    if (!isOwnDirectory(database, node)) continue
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

  function* visit(directory: NodeId): Steps {
    let count = ownSubdirectories.get(directory) ?? 0
    // As in `countStoreLinks`.
    if (directory === now.store) count += index.storeDirectories
    for (const child of childrenOf(now, directory, entries.get(directory))) {
      yield
      if (child >= firstOwn) continue
      if (kindOf(child) === 'directory') count++
      addName(child)
    }
    subdirectories.set(directory, count)
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

function isOwnDirectory(database: LayerDatabase, node: NodeId | undefined): boolean {
  return node !== undefined && isOwn(node) && database.readNode(node)?.kind === 'directory'
}

function* childrenOf(now: LayerImage, directory: NodeId, changed?: Changed): Generator<NodeId> {
  for (let place = 0; ; place++) {
    const child = now.childAt(directory, place)
    if (!child) break
    if (!changed?.has(keyOf(child.name))) yield child.node
  }
  for (const node of changed?.values() ?? []) if (node !== undefined) yield node
}
