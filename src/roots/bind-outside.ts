/**
 * Merges what the machine changed outside the store paths with what another image brings there. The
 * files of the image before, of the image now and of the machine are compared: see docs/layers.md.
 */
import { NetimageError } from '../errors.ts'
import type { NodeId, Time } from '../protocols/nfs/file-system.ts'
import { escapeBytes } from '../tree-files.ts'
import type { BindWork } from './bind-work.ts'
import type { BoundFile } from './bound-files.ts'
import type { NodeRow, PlacedEntry } from './database.ts'
import { placeInImage } from './directories.ts'
import type { KeptFile } from './kept-files.ts'
import { firstOwn, rootNode } from './numbers.ts'

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
export function mergeOutside(work: OutsideWork): void {
  const { database, now, given } = work
  const rows = new Map(database.nodesWhere(`id < ${firstOwn}`).map((row) => [row.id, row]))
  const entries = new Map<NodeId, Map<string, PlacedEntry>>()
  for (const entry of database.entriesWhere(`directory < ${firstOwn}`)) {
    const known = entries.get(entry.directory) ?? new Map<string, PlacedEntry>()
    entries.set(entry.directory, known.set(keyOf(entry.name), entry))
  }
  /** Nodes of images to which the machine gave a name. */
  const named = new Set<NodeId>()
  for (const { node } of database.entriesWhere(`node < ${firstOwn}`)) {
    if (node !== undefined) named.add(node)
  }
  const before = new Map(work.filesBefore?.map((file) => [file.number, file]))
  const after = new Map(work.files.map((file) => [file.number, file]))
  const namesBefore = findNames()
  const childrenBefore = Map.groupBy(
    [...namesBefore].flatMap(([node, names]) => names.map((name) => ({ ...name, node }))),
    ({ directory }) => directory,
  )
  /** Nodes that the machine keeps although the image does not have them, or has another kind. */
  const own = new Set<NodeId>()

  /** Rows that are not needed any more, unless something below them stays. */
  const unneeded: NodeId[] = []

  // The rows that are added below need no second look.
  for (const row of [...rows.values()]) mergeNode(row)
  for (const id of unneeded) if (!own.has(id)) deleteNode(id)
  for (const [directory, inside] of entries) mergeEntries(directory, inside)

  function findNames(): Map<NodeId, Name[]> {
    const numbers = new Map<string, NodeId>([['', rootNode]])
    const files: { path: Buffer; number: NodeId }[] = [
      ...(work.filesBefore ?? database.fileNumbers()),
    ].filter(({ path }) => path.length > 0)
    for (const { path, number } of files) numbers.set(keyOf(path), number)
    const names = new Map<NodeId, Name[]>()
    for (const { path, number } of files) {
      const end = path.lastIndexOf('/')
      const directory = numbers.get(keyOf(path.subarray(0, end)))
      if (directory === undefined) continue
      const name = { directory, name: path.subarray(end + 1), path }
      names.set(number, [...(names.get(number) ?? []), name])
    }
    return names
  }

  function tell(node: NodeId, why: KeptFile['why']): void {
    const path = before.get(node)?.path ?? after.get(node)?.path ?? namesBefore.get(node)?.[0]?.path
    work.kept.push({ path: escapeBytes(path ?? Buffer.from(String(node))), why })
  }

  function mergeNode(row: NodeRow): void {
    const { id } = row
    const inImage = now.node(id)
    if (row.links === 0) {
      if (!inImage) unneeded.push(id)
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
      keepNames(id)
    } else {
      if (inImage) tell(id, 'changed-both')
      else if (before.has(id) || !work.filesBefore) tell(id, 'gone-from-image')
      keep(row)
    }
  }

  /** Whether the machine has changed the node itself, or has given it a name. */
  function isChanged(row: NodeRow): boolean {
    const { id, kind, mode, uid, gid, modified } = row
    if (row.ownData || row.target !== undefined || named.has(id)) return true
    const file = before.get(id)
    if (!file || file.kind !== kind) return true
    if (mode !== file.mode || uid !== file.uid || gid !== file.gid) return true
    if (kind !== 'directory') return !isSameTime(modified, file.modified)
    return [...(entries.get(id)?.values() ?? [])].some(({ node }) => node !== undefined)
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
    if (!one || !other) return false
    return (['mode', 'uid', 'gid'] as const).some(
      (name) => row[name] !== one[name] && other[name] !== one[name] && row[name] !== other[name],
    )
  }

  /** What the machine did not change is as in the image. */
  function followAttributes(row: NodeRow): void {
    const [one, other] = [before.get(row.id), after.get(row.id)]
    if (!one || !other) return
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

  /** The node becomes the machine's own: it gets all that it had from the image before. */
  function keep(row: NodeRow): void {
    const { id, kind } = row
    if (own.has(id)) return
    own.add(id)
    const kept = { ...row }
    if (kind === 'file' && !row.ownData) {
      if (!work.data.ofImage(work.before(), id, id)) throw imageMissing(id)
      kept.ownData = true
    }
    if (kind === 'symlink') kept.target = row.target ?? targetBefore(id)
    write(kept)
    keepNames(id)
    // Only a directory that the machine moved takes along all that is below.
    if (kind === 'directory' && named.has(id)) keepBelow(id)
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

  function keepBelow(directory: NodeId): void {
    for (const { node, name } of childrenBefore.get(directory) ?? []) {
      if (entries.get(directory)?.has(keyOf(name)) || now.node(node)) continue
      const row = rows.get(node) ?? rowBefore(node)
      if (row.links === 0) continue
      named.add(node)
      keep(row)
    }
  }

  /** All names that the node had in the image before stay its names, except those that were removed. */
  function keepNames(id: NodeId): void {
    for (const { directory, name } of namesBefore.get(id) ?? []) {
      if (entries.get(directory)?.has(keyOf(name)) || rows.get(directory)?.links === 0) continue
      const child = now.child(directory, name)
      if (child !== id) {
        put({
          directory,
          name,
          node: id,
          cookie: child === undefined ? given.cookie() : placeInImage,
        })
      }
      keepDirectory(directory)
    }
  }

  /** A directory with something that stays must be there, and all above it. */
  function keepDirectory(id: NodeId): void {
    const row = rows.get(id)
    if (
      (row ?? now.node(id))?.kind === 'directory' &&
      (now.node(id)?.kind === 'directory' || own.has(id))
    )
      return
    keep(row ?? rowBefore(id))
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
  function mergeEntries(directory: NodeId, inside: ReadonlyMap<string, PlacedEntry>): void {
    for (const entry of inside.values()) {
      const { name, node, cookie } = entry
      const child = now.child(directory, name)
      const isInImage = child !== undefined
      if (node === undefined) {
        if (!isInImage) database.deleteEntry(directory, name)
        continue
      }
      if (isInImage === (cookie === placeInImage)) continue
      if (isInImage && child !== node) tellName(directory, name)
      put({ ...entry, cookie: isInImage ? placeInImage : given.cookie() })
    }
  }

  function tellName(directory: NodeId, name: Buffer): void {
    const above = after.get(directory)?.path ?? Buffer.alloc(0)
    const path = Buffer.concat([above, Buffer.from('/'), name])
    work.kept.push({ path: escapeBytes(path), why: 'added-both' })
  }

  function put(entry: PlacedEntry): void {
    const { directory, name } = entry
    database.writeEntry(directory, entry)
    const inside = entries.get(directory) ?? new Map<string, PlacedEntry>()
    entries.set(directory, inside.set(keyOf(name), entry))
  }

  function write(row: NodeRow): void {
    rows.set(row.id, row)
    database.writeNode(row)
  }

  function deleteNode(id: NodeId): void {
    rows.delete(id)
    entries.delete(id)
    database.deleteNode(id)
    database.deleteEntries(id)
  }
}

function keyOf(name: Buffer): string {
  return name.toString('latin1')
}

function isSameTime(one: Time, other: Time): boolean {
  return one.seconds === other.seconds && one.nanoseconds === other.nanoseconds
}
