/**
 * Merges what the machine changed outside the store paths with what another image brings there. The
 * files of the image before, of the image now and of the machine are compared: see docs/layers.md.
 */
import { NetimageError } from '../errors.ts'
import type { NodeId, NodeKind, Time } from '../protocols/nfs/file-system.ts'
import { escapeBytes } from '../tree-files.ts'
import { keyOf, readOutsideRows } from './bind-rows.ts'
import type { BindWork } from './bind-work.ts'
import { doNow, type Steps } from './steps.ts'
import type { BoundFile } from './bound-files.ts'
import type { NodeRow, PlacedEntry } from './layer-rows.ts'
import { placeInImage } from './directories.ts'
import type { Kept } from './kept-files.ts'
import { isOwn, rootNode } from './numbers.ts'

export interface OutsideWork extends BindWork {
  /** What the image before brought; undefined if this is not known. */
  filesBefore: readonly BoundFile[] | undefined
  /** What the image brings now. */
  files: readonly BoundFile[]
}

/** A name of a node in the image before. */
interface Name {
  directory: NodeId
  name: Buffer
  path: Buffer
}

/** To be called in a transaction, before `countLinks`. */
export function* mergeOutside(work: OutsideWork): Steps {
  const { database, now, given } = work
  const { rows, entries, named, namesOf, hasName, write, put, deleteEntry, deleteNode } =
    yield* readOutsideRows(work)
  const before = yield* byNumber(work.filesBefore ?? [])
  const after = yield* byNumber(work.files)
  const namesBefore = yield* findNames(work.filesBefore ?? database.eachFileNumber())
  let places: Map<NodeId, Name[]> | undefined
  const childrenBefore = yield* byDirectory(namesBefore)
  /** Directories that the machine keeps although the image does not have them, or has another kind. */
  const own = new Set<NodeId>()
  /** Nodes of an image that became the machine's own, and their new numbers. */
  const replaced = new Map<NodeId, NodeId>()

  /** Rows that are not needed any more, unless something below them stays. */
  const unneeded: NodeId[] = []

  for (const node of named()) {
    for (const entry of namesOf(node)) {
      if (isNameBefore(entry)) deleteEntry(entry)
      yield
    }
  }
  // What was kept at an earlier binding is only the machine's, if it is not a directory in its place.
  for (const row of [...rows.values()]) {
    yield
    if (!rows.has(row.id)) continue
    const isKept = row.links > 0 && kindBefore(row.id) !== row.kind
    const stays = row.kind === 'directory' && !isMoved(row.id)
    if (isKept && !stays) yield* becomeOwn(row)
  }
  // The rows that are added below need no second look.
  for (const id of [...rows.keys()]) {
    yield
    const row = isOwn(id) ? undefined : rows.get(id)
    if (row) yield* mergeNode(row)
  }
  // A file that became the machine's own at an earlier binding has not changed its directory.
  for (const [directory, inside] of [...entries]) {
    yield
    if (hasNode(inside) && !isOwn(directory) && !rows.has(directory)) {
      yield* keepDirectory(directory)
    }
  }
  for (const id of unneeded) {
    if (!own.has(id)) yield* deleteNode(id)
    yield
  }
  for (const [directory, inside] of [...entries]) yield* mergeEntries(directory, inside)

  /** Whether the image before gives the name to this node. */
  function isNameBefore({ directory, name, node }: PlacedEntry): boolean {
    const known = namesBefore.get(node ?? 0) ?? []
    return known.some((each) => each.directory === directory && each.name.equals(name))
  }

  /** Without knowledge of the image before, the image now stands for it. */
  function kindBefore(id: NodeId): NodeKind | undefined {
    return (work.filesBefore ? before.get(id) : now.node(id))?.kind
  }

  /** Whether a directory has another place than the one by which images know it. */
  function isMoved(id: NodeId): boolean {
    const place = placeOf(id)
    return namesOf(id).some(
      ({ directory, name }) => directory !== place?.directory || !name.equals(place.name),
    )
  }

  /** The place by which images know a file. */
  function placeOf(id: NodeId): Name | undefined {
    places ??= doNow(findNames(database.eachFileNumber()))
    return places.get(id)?.[0]
  }

  function tell(node: NodeId, why: Parameters<Kept['tell']>[0]): void {
    const path = before.get(node)?.path ?? after.get(node)?.path ?? namesBefore.get(node)?.[0]?.path
    work.kept.tell(why, () => path ?? Buffer.from(String(node)))
  }

  function* mergeNode(row: NodeRow): Steps {
    const { id } = row
    const inImage = now.node(id)
    if (row.links === 0) {
      // A directory that stayed, and that the machine has removed since then, is nobody's.
      if (!inImage || kindBefore(id) === undefined) unneeded.push(id)
      else if (isOtherInImage(id)) tell(id, 'removed-here')
      return
    }
    const isSameKind = inImage?.kind === row.kind
    if (!isChanged(row)) {
      if (isSameKind) followAttributes(row)
      else unneeded.push(id)
      return
    }
    if (isSameKind) {
      const isBoth = (row.ownData && isOtherInImage(id)) || changesSameAttribute(row)
      if (isBoth) tell(id, 'changed-both')
      followAttributes(row)
      yield* keepNames(id, id)
    } else {
      if (inImage) tell(id, 'changed-both')
      else if (before.has(id) || !work.filesBefore) tell(id, 'gone-from-image')
      yield* keep(row)
    }
  }

  /** Whether the machine has changed the node itself, or has given it a name. */
  function isChanged(row: NodeRow): boolean {
    const { id, kind, mode, uid, gid, modified } = row
    if (row.ownData || row.target !== undefined || hasName(id)) return true
    const file = before.get(id)
    if (!file || file.kind !== kind) return true
    if (mode !== file.mode || uid !== file.uid || gid !== file.gid) return true
    if (kind !== 'directory') return !isSameTime(modified, file.modified)
    return hasNode(entries.get(id))
  }

  /** Whether the image brings something else than before. */
  function isOtherInImage(id: NodeId): boolean {
    const [one, other] = [before.get(id), after.get(id)]
    if (!one || !other) return true
    if (one.kind !== other.kind || one.content !== other.content) return true
    if (one.mode !== other.mode || one.uid !== other.uid || one.gid !== other.gid) return true
    return one.target === undefined ? false : !other.target?.equals(one.target)
  }

  function changesSameAttribute(row: NodeRow): boolean {
    const [one, other] = [before.get(row.id), after.get(row.id)]
    if (one?.kind !== row.kind || !other) return false
    return (['mode', 'uid', 'gid'] as const).some(
      (name) => row[name] !== one[name] && other[name] !== one[name] && row[name] !== other[name],
    )
  }

  /** What the machine did not change is as in the image. */
  function followAttributes(row: NodeRow): void {
    const [one, other] = [before.get(row.id), after.get(row.id)]
    if (one?.kind !== row.kind || other?.kind !== row.kind) return
    const device = now.node(row.id)?.device ?? row.device
    const followed = { ...row, device }
    for (const name of ['mode', 'uid', 'gid'] as const) {
      if (row[name] === one[name]) followed[name] = other[name]
    }
    for (const name of ['modified', 'accessed'] as const) {
      if (isSameTime(row[name], one.modified)) followed[name] = other.modified
    }
    write(followed)
  }

  /** The machine keeps the node, with all that it had from the image before. */
  function* keep(row: NodeRow): Steps {
    const { id, kind } = row
    if (own.has(id) || replaced.has(id)) return
    // Images that bring the directory again bring their files into it.
    if (kind !== 'directory' || isMoved(id)) {
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
    if (kind === 'file') kept.ownData = takeData(row, id)
    if (kind === 'symlink') kept.target = row.target ?? targetBefore(from)
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

  function takeData({ id, ownData }: NodeRow, to: NodeId): boolean {
    if (ownData && work.data.ofNode(id, to)) return true
    if (work.data.ofImage(work.before(), id, to)) return true
    if (!ownData) throw imageMissing(id)
    // A loss of power has taken the data: see `matchData` in layer.ts.
    return false
  }

  /** Moves the names of a directory to another one. @returns how many directories are inside */
  function* moveInside(from: NodeId, to: NodeId): Steps<number> {
    for (const { node, name } of childrenBefore.get(from) ?? []) {
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
    const row = rows.get(node) ?? rowBefore(node)
    const isInBoth = kindBefore(node) === row.kind && now.node(node)?.kind === row.kind
    return isInBoth ? row : rows.get(yield* becomeOwn(row))
  }

  function targetBefore(id: NodeId): Buffer {
    const known = before.get(id)?.target
    if (known) return known
    const image = work.before()
    const node = image?.node(id)
    if (!image || node?.kind !== 'symlink') throw imageMissing(id)
    return image.readLink(node)
  }

  function imageMissing(id: NodeId): NetimageError {
    const path = namesBefore.get(id)?.[0]?.path ?? Buffer.from(String(id))
    const file = escapeBytes(path)
    return new NetimageError(
      'bad-state',
      `the machine has changed ${file}, whose contents are in the image that it had before, and that image is missing`,
      {
        details: { file },
        hint: 'Put that image back where it was, and boot the machine again. Or remove what the machine wrote: netimage layers reset.',
      },
    )
  }

  /** All names that the node had in the image before stay its names, except those that were removed. */
  function* keepNames(id: NodeId, as: NodeId): Steps {
    for (const { directory, name } of namesBefore.get(id) ?? []) {
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
    yield* keep(row ?? rowBefore(id))
  }

  /** The row of a node that is as in the image before. */
  function rowBefore(id: NodeId): NodeRow {
    const file = before.get(id)
    const { mode, uid, gid, kind, modified } = file ?? {
      ...{ mode: 0o755, uid: 0, gid: 0, kind: 'directory' as const },
      modified: { seconds: 0, nanoseconds: 0 },
    }
    const parent = kind === 'directory' ? (namesBefore.get(id)?.[0]?.directory ?? rootNode) : 0
    const device = work.before()?.node(id)?.device ?? { major: 0, minor: 0 }
    return {
      ...{ id, kind, mode, uid, gid, links: 1, device, parent, target: undefined, ownData: false },
      ...{ accessed: modified, modified, changed: modified },
    }
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

function* byNumber(files: readonly BoundFile[]): Steps<Map<NodeId, BoundFile>> {
  const found = new Map<NodeId, BoundFile>()
  for (const file of files) {
    found.set(file.number, file)
    yield
  }
  return found
}

function* findNames(files: Iterable<{ path: Buffer; number: NodeId }>): Steps<Map<NodeId, Name[]>> {
  const numbers = new Map<string, NodeId>([['', rootNode]])
  const below: { path: Buffer; number: NodeId }[] = []
  for (const file of files) {
    yield
    if (file.path.length === 0) continue
    numbers.set(keyOf(file.path), file.number)
    below.push(file)
  }
  const names = new Map<NodeId, Name[]>()
  for (const { path, number } of below) {
    yield
    const end = path.lastIndexOf('/')
    const directory = numbers.get(keyOf(path.subarray(0, end)))
    if (directory === undefined) continue
    add(names, number, { directory, name: path.subarray(end + 1), path })
  }
  return names
}

/** The names in each directory. */
function* byDirectory(
  names: ReadonlyMap<NodeId, readonly Name[]>,
): Steps<Map<NodeId, (Name & { node: NodeId })[]>> {
  const found = new Map<NodeId, (Name & { node: NodeId })[]>()
  for (const [node, ofNode] of names) {
    for (const name of ofNode) add(found, name.directory, { ...name, node })
    yield
  }
  return found
}

function add<T>(all: Map<NodeId, T[]>, key: NodeId, value: T): void {
  const known = all.get(key)
  if (known) known.push(value)
  else all.set(key, [value])
}

/** Stops at the first node, because a directory can have very many names. */
function hasNode(inside: ReadonlyMap<string, PlacedEntry> = new Map()): boolean {
  for (const { node } of inside.values()) if (node !== undefined) return true
  return false
}

function isSameTime(one: Time, other: Time): boolean {
  return one.seconds === other.seconds && one.nanoseconds === other.nanoseconds
}
