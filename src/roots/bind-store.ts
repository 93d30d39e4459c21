/**
 * Undoes what a machine changed in the store paths of images. Store paths that the machine made stay.
 * If an image brings a path with the same name, the path of the machine is hidden as long as the
 * machine has the path of the image: a system of the machine may need the path after the image is gone.
 */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import type { PlacedEntry } from './database.ts'
import type { BindWork } from './bind-work.ts'
import { placeInImage } from './directories.ts'
import { findStorePath, type LayerImage } from './layer-image.ts'
import type { ImageIndex } from './image-index.ts'
import { toRow } from './nodes.ts'
import { firstOfStore, isOfStore, isOwn } from './numbers.ts'
import { releaseNode } from './release-node.ts'

export interface StoreWork extends BindWork {
  index: ImageIndex
  /** Whether there are other store paths than at the last binding. */
  isPathsChanged: boolean
}

export interface Undone {
  /** Whether something has changed in /nix/store. */
  store: boolean
  /** Whether files that an image brings outside the store paths have lost a name. */
  outside: boolean
}

/**
 * Directories in /nix/store that Nix empties itself: links to files, which `nix-store --optimise`
 * makes, and paths that are being deleted.
 */
const foldersOfNix = ['.links', 'trash'].map((name) => Buffer.from(name))

/** To be called in a transaction. */
export function undoStore(work: StoreWork): Undone {
  const { database, now, index, isPathsChanged } = work
  const undone: Undone = { store: false, outside: false }
  const copies = new Map<NodeId, NodeId | undefined>()
  /** How many names of the machine stay names of a file of an image, because there is no room. */
  const staying = new Map<NodeId, number>()
  const { store } = now
  const hidden = new Set(database.hiddenPaths().map(({ name }) => name.toString('latin1')))

  for (const entry of database.entriesWhere(`node >= ${firstOfStore}`)) {
    // Entries in store paths go below. A directory that was copied has taken its entries along.
    if (isOfStore(entry.directory)) continue
    undone.store = true
    const copy = isKeptElsewhere(entry) ? copyOf(entry) : undefined
    if (copy === undefined) takeAway(entry)
    else database.writeEntry(entry.directory, { ...entry, node: copy })
  }
  for (const { directory, name, node } of database.entriesWhere('directory >= ?', firstOfStore)) {
    undone.store = true
    if (node !== undefined && !isOfStore(node)) release(node)
    database.deleteEntry(directory, name)
  }
  if (database.select('SELECT 1 FROM nodes WHERE id >= ? LIMIT 1', firstOfStore).length > 0) {
    undone.store = true
    database.run('DELETE FROM nodes WHERE id >= ?', firstOfStore)
  }
  for (const [node, names] of staying) {
    const ofImage = now.node(node)
    if (ofImage) database.writeNode({ ...toRow(ofImage), links: ofImage.links + names })
  }
  if (store !== undefined) {
    giveWay(store)
    if (isPathsChanged) showHidden(store)
  }
  return undone

  /** In /nix/store itself and in directories that Nix empties, nothing is lost if the name goes. */
  function isKeptElsewhere({ directory }: PlacedEntry): boolean {
    if (store === undefined) return true
    if (directory === store) return false
    return !foldersOfNix.some((name) => database.readEntry(store, name)?.node === directory)
  }

  function takeAway({ directory, name, node }: PlacedEntry): void {
    const isDirectory = node !== undefined && kindOf(node) === 'directory'
    if (directory === store && now.child(directory, name) !== undefined) {
      // The image has the name, too. The machine had removed the image's path, or moved it back.
      database.deleteEntry(directory, name)
      return
    }
    database.deleteEntry(directory, name)
    const row = isDirectory && isOwn(directory) ? database.readNode(directory) : undefined
    if (row) database.writeNode({ ...row, links: row.links - 1 })
  }

  function kindOf(node: NodeId): string | undefined {
    return (database.readNode(node) ?? now.node(node) ?? work.before()?.node(node))?.kind
  }

  /** What has a name in another directory becomes the machine's own. */
  function copyOf(entry: PlacedEntry): NodeId | undefined {
    const { node, directory, name } = entry
    if (node === undefined) return undefined
    // A directory has one name.
    if (!copies.has(node)) copies.set(node, makeCopy(node, directory))
    const copy = copies.get(node)
    if (copy === node) {
      staying.set(node, (staying.get(node) ?? 0) + 1)
      return node
    }
    const row = copy === undefined ? undefined : database.readNode(copy)
    if (!row) work.kept.push({ path: `${directory}/${name.toString()}`, why: 'lost' })
    else if (row.kind !== 'directory') database.writeNode({ ...row, links: row.links + 1 })
    return copy
  }

  /**
   * @returns the node itself if there is no room and an image still has it; undefined if there is no
   *   room, or the node is in no image any more
   */
  function makeCopy(node: NodeId, parent: NodeId): NodeId | undefined {
    const { data } = work
    const image = now.node(node) ? now : work.before()
    const ofImage = image?.node(node)
    const row = database.readNode(node) ?? (ofImage && toRow(ofImage))
    if (!row || row.links === 0) return undefined
    const id = work.given.node()
    if (row.kind === 'directory') {
      database.writeNode({ ...row, id, links: 2 + copyInside(node, id, image), parent })
      return id
    }
    if (row.kind === 'file') {
      const isOwnData = row.ownData && data.ofNode(node, id)
      // The machine must boot, so what the images do not have any more is only kept from filling the disk.
      const most = image === now ? 'limit' : 'disk'
      const copied = isOwnData ? 'made' : data.ofStorePath(image, node, id, most)
      if (copied === 'no-room' && image === now) return node
      if (copied !== 'made') return undefined
    }
    const isLink = row.kind === 'symlink' && row.target === undefined
    const target = isLink && ofImage && image ? image.readLink(ofImage) : row.target
    database.writeNode({ ...row, id, links: 0, parent: 0, target, ownData: row.kind === 'file' })
    return id
  }

  /** @returns how many directories are inside */
  function copyInside(from: NodeId, to: NodeId, image: LayerImage | undefined): number {
    const inside = new Map<string, { name: Buffer; node: NodeId | undefined }>()
    for (let place = 0; ; place++) {
      const child = image?.childAt(from, place)
      if (!child) break
      inside.set(child.name.toString('latin1'), child)
    }
    for (const entry of database.entriesWhere('directory = ?', from)) {
      inside.set(entry.name.toString('latin1'), entry)
      // What has moved is not undone below.
      database.deleteEntry(from, entry.name)
    }
    let subdirectories = 0
    for (const { name, node } of inside.values()) {
      if (node === undefined) continue
      const moved = isOfStore(node) ? copyOf({ directory: to, name, node, cookie: 0 }) : node
      if (moved === undefined) continue
      database.writeEntry(to, { name, node: moved, cookie: work.given.cookie() })
      const row = database.readNode(moved)
      if (row?.kind !== 'directory') continue
      database.writeNode({ ...row, parent: to })
      subdirectories++
    }
    return subdirectories
  }

  function release(node: NodeId): void {
    if (releaseNode(work, node)) undone.outside = true
  }

  /** The machine may have made the path a second time, after it had removed the path of the image. */
  function hide(name: Buffer, node: NodeId): void {
    if (!isOwn(node) || hidden.has(name.toString('latin1'))) release(node)
    else database.hidePath(name, node)
  }

  /** Paths of the machine that no image hides any more have their names again. */
  function showHidden(directory: NodeId): void {
    for (const { name, node } of database.hiddenPaths()) {
      if (findStorePath(index, name) !== undefined) continue
      undone.store = true
      database.showPath(name)
      const isTaken =
        database.readEntry(directory, name)?.node !== undefined ||
        now.child(directory, name) !== undefined
      if (isTaken) release(node)
      else database.writeEntry(directory, { name, node, cookie: work.given.cookie() })
    }
  }

  /** In /nix/store, the names of the images' paths lead to these paths. */
  function giveWay(directory: NodeId): void {
    const which = isPathsChanged ? '' : ` AND cookie = ${placeInImage}`
    for (const entry of database.entriesWhere(`directory = ?${which}`, directory)) {
      const { name, node, cookie } = entry
      const isPath = findStorePath(index, name) !== undefined
      if (isPath) {
        undone.store = true
        if (node !== undefined && !isOfStore(node)) hide(name, node)
        database.deleteEntry(directory, name)
        continue
      }
      const isInImage = now.child(directory, name) !== undefined
      if (isInImage === (cookie === placeInImage)) continue
      undone.store = true
      if (node === undefined) database.deleteEntry(directory, name)
      else {
        const place = isInImage ? placeInImage : work.given.cookie()
        database.writeEntry(directory, { name, node, cookie: place })
      }
    }
  }
}
