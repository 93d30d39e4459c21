/**
 * Undoes what a machine changed in the store paths of images. Store paths that the machine made stay.
 * If an image brings a path with the same name, the path of the machine is hidden as long as the
 * machine has the path of the image: a system of the machine may need the path after the image is gone.
 */
import { NetimageError } from '../errors.ts'
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { escapeBytes } from '../tree-files.ts'
import type { NodeRow, PlacedEntry } from './layer-rows.ts'
import { readAll, type BindWork } from './bind-work.ts'
import type { Steps } from './steps.ts'
import { placeInImage } from './directories.ts'
import { createPaths, type PlacedName } from './directory-paths.ts'
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

interface CopiedDirectory {
  from: NodeId
  to: NodeId
  /** The image that has it. */
  image: LayerImage | undefined
  placed: PlacedName
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

/**
 * To be called in a transaction.
 *
 * @throws `NetimageError` `disk-full` if the disk has no room for a file that only the machine has
 */
export function* undoStore(work: StoreWork): Steps<Undone> {
  const { database, now, index, isPathsChanged } = work
  const undone: Undone = { store: false, outside: false }
  const copies = new Map<NodeId, NodeId | undefined>()
  /** Files of an image that names of the machine still lead to, because there is no room for copies. */
  const staying = new Map<NodeId, { row: NodeRow; names: number }>()
  const pathOf = createPaths(database)
  /** Directories that have a copy, in which nothing is yet. They can be in each other without limit. */
  const empty: CopiedDirectory[] = []
  const { store } = now
  const hidden = new Set(database.hiddenPaths().map(({ name }) => name.toString('latin1')))

  for (const entry of yield* readAll(database.eachEntry(`node >= ${firstOfStore}`))) {
    yield
    // Entries in store paths go below. A directory that was copied has taken its entries along.
    if (isOfStore(entry.directory)) continue
    undone.store = true
    const copy = isKeptElsewhere(entry) ? yield* copyOf(entry.node, entry) : undefined
    for (let next = empty.pop(); next; next = empty.pop()) yield* copyInside(next)
    if (copy === undefined) yield* takeAway(entry)
    else database.writeEntry(entry.directory, { ...entry, node: copy })
  }
  for (const { id } of yield* readAll(database.eachNode('id >= ?', firstOfStore))) {
    undone.store = true
    database.deleteNode(id)
    yield
  }
  for (const [node, { row, names }] of staying) {
    yield* now.prepare(node)
    const links = now.node(node)?.links ?? 0
    database.writeNode({ ...row, links: links + names, ownData: false })
  }
  const inPaths = yield* readAll(database.eachEntry('directory >= ?', firstOfStore))
  for (const { directory, name, node } of inPaths) {
    undone.store = true
    if (node !== undefined && !isOfStore(node)) yield* release(node)
    database.deleteEntry(directory, name)
    yield
  }
  if (store !== undefined) {
    yield* giveWay(store)
    if (isPathsChanged) yield* showHidden(store)
  }
  return undone

  /** In /nix/store itself and in directories that Nix empties, nothing is lost if the name goes. */
  function isKeptElsewhere({ directory }: PlacedEntry): boolean {
    if (store === undefined) return true
    if (directory === store) return false
    return !foldersOfNix.some((name) => database.readEntry(store, name)?.node === directory)
  }

  function* takeAway({ directory, name, node }: PlacedEntry): Steps {
    const isDirectory = node !== undefined && (yield* kindOf(node)) === 'directory'
    if (directory === store && now.child(directory, name) !== undefined) {
      // The image has the name, too. The machine had removed the image's path, or moved it back.
      database.deleteEntry(directory, name)
      return
    }
    database.deleteEntry(directory, name)
    const row = isDirectory && isOwn(directory) ? database.readNode(directory) : undefined
    if (row) database.writeNode({ ...row, links: row.links - 1 })
  }

  function* kindOf(node: NodeId): Steps<string | undefined> {
    return (database.readNode(node) ?? (yield* imageOf(node))?.node(node))?.kind
  }

  /** @returns the image before if the image now does not have the node */
  function* imageOf(node: NodeId): Steps<LayerImage | undefined> {
    yield* now.prepare(node)
    if (now.node(node)) return now
    const before = yield* work.before()
    if (before) yield* before.prepare(node)
    return before
  }

  /** What has a name in another directory becomes the machine's own. */
  function* copyOf(node: NodeId | undefined, placed: PlacedName): Steps<NodeId | undefined> {
    if (node === undefined) return undefined
    // A directory has one name.
    if (!copies.has(node)) copies.set(node, yield* makeCopy(node, placed))
    const copy = copies.get(node)
    const stays = copy === node ? staying.get(node) : undefined
    if (stays) {
      stays.names++
      return node
    }
    const row = copy === undefined ? undefined : database.readNode(copy)
    if (!row) tellLost(placed)
    else if (row.kind !== 'directory') database.writeNode({ ...row, links: row.links + 1 })
    return copy
  }

  function tellLost(placed: PlacedName): void {
    work.kept.tell('lost', () => pathOf(placed))
  }

  /**
   * @returns the node itself if there is no room and an image still has it; undefined if the node is in
   *   no image any more
   */
  function* makeCopy(node: NodeId, placed: PlacedName): Steps<NodeId | undefined> {
    const { data } = work
    const image = yield* imageOf(node)
    const ofImage = image?.node(node)
    const row = database.readNode(node) ?? (ofImage && toRow(ofImage))
    if (!row || row.links === 0) return undefined
    const id = work.given.node()
    if (row.kind === 'directory') {
      // Nobody knows what was in it.
      if (!ofImage) tellLost(placed)
      empty.push({ from: node, to: id, image, placed })
      const { directory } = placed
      const parent = typeof directory === 'number' ? directory : 0
      database.writeNode({ ...row, id, links: 2, parent })
      return id
    }
    if (row.kind === 'file') {
      const isOwnData = row.ownData && data.ofNode(node, id)
      // So that a machine with a full layer boots. Only the disk limits what no image has any more.
      const most = image === now ? 'limit' : 'disk'
      const copied = isOwnData ? 'made' : yield* data.ofStorePath(image, node, id, most)
      if (copied === 'no-room') {
        if (image !== now) throw noRoom(pathOf(placed))
        staying.set(node, { row, names: 0 })
        return node
      }
      if (copied === 'gone') return undefined
    }
    const isLink = row.kind === 'symlink' && row.target === undefined
    if (isLink && !ofImage) return undefined
    const target = isLink && ofImage && image ? image.readLink(ofImage) : row.target
    database.writeNode({ ...row, id, links: 0, parent: 0, target, ownData: row.kind === 'file' })
    return id
  }

  function* copyInside({ from, to, image, placed }: CopiedDirectory): Steps {
    const children = new Map<string, { name: Buffer; node: NodeId | undefined }>()
    for (let place = 0; ; place++) {
      if (image) yield* image.prepareNames(from)
      const child = image?.childAt(from, place)
      if (!child) break
      children.set(child.name.toString('latin1'), child)
      yield
    }
    for (const entry of yield* readAll(database.eachEntry('directory = ?', from))) {
      children.set(entry.name.toString('latin1'), entry)
      // What has moved is not undone below.
      database.deleteEntry(from, entry.name)
      yield
    }
    let subdirectories = 0
    for (const { name, node } of children.values()) {
      yield
      if (node === undefined) continue
      const moved = isOfStore(node) ? yield* copyOf(node, { directory: placed, name }) : node
      if (moved === undefined) continue
      database.writeEntry(to, { name, node: moved, cookie: work.given.cookie() })
      const row = database.readNode(moved)
      if (row?.kind !== 'directory') continue
      database.writeNode({ ...row, parent: to })
      subdirectories++
    }
    const row = database.readNode(to)
    if (row) database.writeNode({ ...row, links: row.links + subdirectories })
  }

  function* release(node: NodeId): Steps {
    if (yield* releaseNode(work, node)) undone.outside = true
  }

  /** The machine may have made the path a second time, after it had removed the path of the image. */
  function* hide(name: Buffer, node: NodeId): Steps {
    if (!isOwn(node) || hidden.has(name.toString('latin1'))) yield* release(node)
    else database.hidePath(name, node)
  }

  /** Paths of the machine that no image hides any more have their names again. */
  function* showHidden(directory: NodeId): Steps {
    for (const { name, node } of database.hiddenPaths()) {
      yield
      if (findStorePath(index, name) !== undefined) continue
      undone.store = true
      database.showPath(name)
      const isTaken =
        database.readEntry(directory, name)?.node !== undefined ||
        now.child(directory, name) !== undefined
      if (isTaken) yield* release(node)
      else database.writeEntry(directory, { name, node, cookie: work.given.cookie() })
    }
  }

  /** In /nix/store, the names of the images' paths lead to these paths. */
  function* giveWay(directory: NodeId): Steps {
    const which = isPathsChanged ? '' : ` AND cookie = ${placeInImage}`
    for (const entry of yield* readAll(database.eachEntry(`directory = ?${which}`, directory))) {
      yield
      const { name, node, cookie } = entry
      const isPath = findStorePath(index, name) !== undefined
      if (isPath) {
        undone.store = true
        if (node !== undefined && !isOfStore(node)) yield* hide(name, node)
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

function noRoom(path: Buffer): NetimageError {
  const file = escapeBytes(path)
  return new NetimageError(
    'disk-full',
    `the disk has no room for a copy of ${file}, which the machine has kept and its images do not have any more`,
    {
      details: { file },
      hint: 'Make room on that disk. The machine waits meanwhile, and its layer has not lost anything.',
    },
  )
}
