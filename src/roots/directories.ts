/** The names in directories: the image's, and what the layer makes of them. */
import type { LayerDatabase } from './database.ts'
import { failure } from './failure.ts'
import type { DirectoryEntry, NodeId } from '../protocols/nfs/file-system.ts'
import type { ImageIndex } from './image-index.ts'
import { firstNewNode, type Nodes } from './nodes.ts'

export interface Directories {
  /** Also `.` and `..`. @throws `ENOTDIR`, `ENAMETOOLONG` */
  lookup(directory: NodeId, name: Buffer): NodeId | undefined
  list(directory: NodeId, cookie: number): Generator<DirectoryEntry>
  /** @throws `ENOTEMPTY` */
  mustBeEmpty(directory: NodeId): void
  put(directory: NodeId, name: Buffer, node: NodeId): void
  take(directory: NodeId, name: Buffer): void
  /** The directory is gone, and with it what is kept of its names. */
  drop(directory: NodeId): void
  /** Writes what the database needs to know besides. */
  write(): void
}

/** Where a listing is: the places of the image's names are below this. */
const firstNewCookie = 2 ** 32
/** Kept for names that the image has as well: they are listed where the image has them. */
const placeInImage = 0
const maxName = 255
const listedAtOnce = 256

export function createDirectories(
  database: LayerDatabase,
  index: ImageIndex,
  nodes: Nodes,
): Directories {
  const overridden = database.overriddenDirectories()
  let nextCookie = Number(database.readMeta('nextCookie') ?? firstNewCookie)
  let writtenCookie = nextCookie

  function inImage(directory: NodeId, name: Buffer): NodeId | undefined {
    return directory < firstNewNode ? index.child(directory, name) : undefined
  }

  function* list(directory: NodeId, after: number): Generator<DirectoryEntry> {
    nodes.findDirectory(directory)
    const isOverridden = overridden.has(directory)
    const childAt = (place: number) =>
      directory < firstNewNode ? index.childAt(directory, place) : undefined
    let child
    for (let place = after; (child = childAt(place)); place++) {
      const entry = isOverridden ? database.readEntry(directory, child.name) : child
      const node = entry ? entry.node : child.node
      if (node !== undefined) yield { name: child.name, node, cookie: place + 1 }
    }
    if (!isOverridden) return
    for (let cookie = Math.max(after, firstNewCookie - 1); ;) {
      const entries = database.listEntries(directory, cookie, listedAtOnce)
      for (const { name, node, cookie: place } of entries) {
        cookie = place
        if (node !== undefined) yield { name, node, cookie }
      }
      if (entries.length < listedAtOnce) return
    }
  }

  return {
    list,
    lookup(directory, name) {
      if (name.length > maxName) throw failure('ENAMETOOLONG', 'a name has more than 255 bytes')
      const { parent } = nodes.findDirectory(directory)
      if (isDots(name)) return name.length === 1 ? directory : parent
      const entry = overridden.has(directory) ? database.readEntry(directory, name) : undefined
      return entry ? entry.node : inImage(directory, name)
    },
    mustBeEmpty(directory) {
      const [first] = list(directory, 0)
      if (first) throw failure('ENOTEMPTY', `${first.name.toString()} is in the directory`)
    },
    put(directory, name, node) {
      // A name keeps its place, whatever it names.
      const isInImage = inImage(directory, name) !== undefined
      const known = overridden.has(directory) ? database.readEntry(directory, name) : undefined
      const cookie = isInImage ? placeInImage : (known?.cookie ?? nextCookie++)
      database.writeEntry(directory, { name, node, cookie })
      overridden.add(directory)
    },
    take(directory, name) {
      if (inImage(directory, name) === undefined) database.deleteEntry(directory, name)
      else database.writeEntry(directory, { name, node: undefined, cookie: placeInImage })
      overridden.add(directory)
    },
    drop(directory) {
      database.deleteEntries(directory)
    },
    write() {
      if (nextCookie !== writtenCookie) database.writeMeta('nextCookie', nextCookie)
      writtenCookie = nextCookie
    },
  }
}

/** A name that can be given or taken away. @throws `ENAMETOOLONG`, `EINVAL` */
export function checkName(name: Buffer): void {
  if (name.length > maxName) throw failure('ENAMETOOLONG', 'a name has more than 255 bytes')
  if (name.length === 0 || name.includes(0) || name.includes('/') || isDots(name)) {
    throw failure('EINVAL', 'this can be no name')
  }
}

function isDots(name: Buffer): boolean {
  return name.length > 0 && name.length <= 2 && name.every((byte) => byte === 0x2e)
}
