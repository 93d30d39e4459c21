/**
 * Merges what the machine changed outside the store paths with what another image brings there. The
 * files of the image before, of the image now and of the machine are compared: see docs/layers.md.
 */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { compareImages, type Images } from './bind-compare.ts'
import { keyOf, readOutsideRows } from './bind-rows.ts'
import type { BindWork } from './bind-work.ts'
import type { Steps } from './steps.ts'
import type { NodeRow, PlacedEntry } from './layer-rows.ts'
import { placeInImage } from './directories.ts'
import type { Kept } from './kept-files.ts'
import { isOwn, rootNode } from './numbers.ts'

/** To be called in a transaction, before `countLinks`. */
export function* mergeOutside(work: BindWork & Images): Steps {
  const { database, now, given } = work
  const { rows, entries, named, namesOf, hasName, write, put, deleteEntry, deleteNode } =
    yield* readOutsideRows(work)
  const images = yield* compareImages(work)
  const { before, after, namesBefore, kindBefore, rowBefore, isOther } = images
  /** Directories that the machine keeps although the image does not have them, or has another kind. */
  const own = new Set<NodeId>()
  /** Nodes of an image that became the machine's own, and their new numbers. */
  const replaced = new Map<NodeId, NodeId>()
  /** Rows that are not needed any more, unless something below them stays. */
  const unneeded: NodeId[] = []

  yield* dropNamesBefore()
  yield* separateKept()
  yield* mergeNodes()
  yield* keepDirectories()
  yield* dropUnneeded()
  for (const [directory, inside] of [...entries]) yield* mergeEntries(directory, inside)

  function* dropNamesBefore(): Steps {
    for (const node of named()) {
      for (const entry of namesOf(node)) {
        if (images.isNameBefore(entry)) deleteEntry(entry)
        yield
      }
    }
  }

  /** What was kept at an earlier binding is only the machine's, if it is not a directory in its place. */
  function* separateKept(): Steps {
    for (const row of [...rows.values()]) {
      yield
      if (!rows.has(row.id)) continue
      const isKept = row.links > 0 && kindBefore(row.id) !== row.kind
      const stays = row.kind === 'directory' && !(yield* isMoved(row.id))
      if (isKept && !stays) yield* becomeOwn(row)
    }
  }

  function* mergeNodes(): Steps {
    // The rows that are added meanwhile need no second look.
    for (const id of [...rows.keys()]) {
      yield
      const row = isOwn(id) ? undefined : rows.get(id)
      if (row) yield* mergeNode(row)
    }
  }

  function* keepDirectories(): Steps {
    for (const [directory, inside] of [...entries]) {
      yield
      // A file that became the machine's own at an earlier binding has not changed its directory.
      if (hasNode(inside) && !isOwn(directory) && !rows.has(directory)) {
        yield* keepDirectory(directory)
      }
    }
  }

  function* dropUnneeded(): Steps {
    for (const id of unneeded) {
      if (!own.has(id)) yield* deleteNode(id)
      yield
    }
  }

  /** Whether a directory has another place than the one by which images know it. */
  function* isMoved(id: NodeId): Steps<boolean> {
    const place = yield* images.placeOf(id)
    return namesOf(id).some(
      ({ directory, name }) => directory !== place?.directory || !name.equals(place.name),
    )
  }

  function tell(node: NodeId, why: Parameters<Kept['tell']>[0]): void {
    work.kept.tell(why, () => images.pathOf(node))
  }

  function* mergeNode(row: NodeRow): Steps {
    const { id } = row
    const inImage = now.node(id)
    if (row.links === 0) {
      // A directory that stayed, and that the machine has removed since then, is nobody's.
      if (!inImage || kindBefore(id) === undefined) unneeded.push(id)
      else if (isOther(id)) tell(id, 'removed-here')
      return
    }
    const isSameKind = inImage?.kind === row.kind
    if (!isChanged(row)) {
      if (isSameKind) followImage(row)
      else unneeded.push(id)
      return
    }
    if (isSameKind) {
      const isBoth = (row.ownData && isOther(id)) || images.changesSameAttribute(row)
      if (isBoth) tell(id, 'changed-both')
      followImage(row)
      yield* keepNames(id, id)
    } else {
      if (inImage) tell(id, 'changed-both')
      else if (before.has(id) || !work.filesBefore) tell(id, 'gone-from-image')
      yield* keep(row)
    }
  }

  /** Whether the machine has changed the node itself, or has given it a name. */
  function isChanged(row: NodeRow): boolean {
    const { id, kind } = row
    if (row.ownData || row.target !== undefined || hasName(id)) return true
    if (!images.isAsBefore(row)) return true
    return kind === 'directory' && hasNode(entries.get(id))
  }

  function followImage(row: NodeRow): void {
    const followed = images.followed(row)
    if (followed) write(followed)
  }

  /** The machine keeps the node, with all that it had from the image before. */
  function* keep(row: NodeRow): Steps {
    const { id, kind } = row
    if (own.has(id) || replaced.has(id)) return
    // Images that bring the directory again bring their files into it.
    if (kind !== 'directory' || (yield* isMoved(id))) {
      yield* becomeOwn(row)
      return
    }
    own.add(id)
    write({ ...row })
    yield* keepNames(id, id)
  }

  /**
   * The node becomes one that the machine has made: a later image that brings the path brings another
   * file.
   *
   * @returns its new number
   */
  function* becomeOwn(row: NodeRow): Steps<NodeId> {
    const { id: from, kind } = row
    const known = replaced.get(from)
    if (known !== undefined) return known
    const id = given.node()
    replaced.set(from, id)
    const kept: NodeRow = { ...row, id, links: 0 }
    if (kind === 'file') kept.ownData = yield* takeData(row, id)
    if (kind === 'symlink') kept.target = row.target ?? (yield* images.targetBefore(from))
    if (kind === 'directory') kept.links = 2 + (yield* moveInside(from, id))
    for (const entry of namesOf(from)) {
      put({ ...entry, node: id })
      yield
    }
    yield* keepNames(from, id)
    const places = namesOf(id)
    if (kind === 'directory') kept.parent = places[0]?.directory ?? rootNode
    else kept.links = places.length
    yield* deleteNode(from)
    write(kept)
    return id
  }

  function* takeData({ id, ownData }: NodeRow, to: NodeId): Steps<boolean> {
    if (ownData && work.data.ofNode(id, to)) return true
    if (work.data.ofImage(yield* work.before(), id, to)) return true
    if (!ownData) throw images.imageMissing(id)
    // A loss of power has taken the data: see `matchData` in layer.ts.
    return false
  }

  /** Moves the names of a directory to another one. @returns how many directories are inside */
  function* moveInside(from: NodeId, to: NodeId): Steps<number> {
    for (const { node, name } of images.namesBeforeIn(from)) {
      yield
      if (entries.get(from)?.has(keyOf(name)) || rows.get(node)?.links === 0) continue
      put({ directory: from, name, node, cookie: given.cookie() })
    }
    let subdirectories = 0
    for (const entry of [...(entries.get(from)?.values() ?? [])]) {
      yield
      const { name, node } = entry
      if (node === undefined) continue
      const inside = yield* inMovedDirectory(node)
      if (!inside) continue
      put({ directory: to, name, node: inside.id, cookie: given.cookie() })
      deleteEntry({ ...entry, node: inside.id })
      if (inside.kind !== 'directory') continue
      subdirectories++
      write({ ...inside, parent: to })
    }
    return subdirectories
  }

  /** The row of what is in a directory that becomes the machine's own. */
  function* inMovedDirectory(node: NodeId): Steps<NodeRow | undefined> {
    const known = replaced.get(node)
    if (known !== undefined) return rows.get(known)
    if (isOwn(node)) return database.readNode(node)
    const row = rows.get(node) ?? (yield* rowBefore(node))
    const isInBoth = kindBefore(node) === row.kind && now.node(node)?.kind === row.kind
    return isInBoth ? row : rows.get(yield* becomeOwn(row))
  }

  /** All names that the node had in the image before stay its names, except those that were removed. */
  function* keepNames(id: NodeId, as: NodeId): Steps {
    for (const { directory, name } of namesBefore(id)) {
      const isChanged = entries.get(directory)?.has(keyOf(name)) ?? false
      if (isChanged || rows.get(directory)?.links === 0 || replaced.has(directory)) continue
      const child = now.child(directory, name)
      if (child !== as) {
        const cookie = child === undefined ? given.cookie() : placeInImage
        put({ directory, name, node: as, cookie })
      }
      yield* keepDirectory(directory)
    }
  }

  /** A directory with something that stays must be there, and all above it. */
  function* keepDirectory(id: NodeId): Steps {
    if (replaced.has(id)) return
    const row = rows.get(id)
    if (
      (row ?? now.node(id))?.kind === 'directory' &&
      (now.node(id)?.kind === 'directory' || own.has(id))
    )
      return
    yield* keep(row ?? (yield* rowBefore(id)))
  }

  /** Names that the image has, too, have the cookie `placeInImage`. */
  function* mergeEntries(directory: NodeId, inside: ReadonlyMap<string, PlacedEntry>): Steps {
    for (const entry of [...inside.values()]) {
      yield
      const { name, node, cookie } = entry
      const child = now.child(directory, name)
      const isInImage = child !== undefined
      if (node === undefined) {
        if (!isInImage) database.deleteEntry(directory, name)
        continue
      }
      if (child === node) {
        // A directory that stayed in its place: the image brings it again.
        deleteEntry(entry)
        continue
      }
      if (isInImage === (cookie === placeInImage)) continue
      if (isInImage) tellName(directory, name)
      put({ ...entry, cookie: isInImage ? placeInImage : given.cookie() })
    }
  }

  function tellName(directory: NodeId, name: Buffer): void {
    const above = after.get(directory)?.path ?? Buffer.alloc(0)
    work.kept.tell('added-both', () => Buffer.concat([above, Buffer.from('/'), name]))
  }
}

/** Stops at the first node, because a directory can have very many names. */
function hasNode(inside: ReadonlyMap<string, PlacedEntry> = new Map()): boolean {
  for (const { node } of inside.values()) if (node !== undefined) return true
  return false
}
