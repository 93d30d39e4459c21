/** The names in directories: those of the image, with the changes of the layer. */
import { isDots } from '../byte-paths.ts'
import type { LayerDatabase } from './database.ts'
import { failure } from './failure.ts'
import { FileSystemError, type DirectoryEntry, type NodeId } from '../protocols/nfs/file-system.ts'
import type { ImageChild, LayerImage } from './layer-image.ts'
import type { Nodes } from './nodes.ts'
import { nextPiece } from './steps.ts'

export interface Directories {
  /** Also `.` and `..`. @throws `ENOTDIR`, `ENAMETOOLONG` */
  lookup(directory: NodeId, name: Buffer): NodeId | undefined
  list(directory: NodeId, cookie: number): Generator<DirectoryEntry>
  /** @throws `ENOTEMPTY` */
  mustBeEmpty(directory: NodeId): void
  put(directory: NodeId, name: Buffer, node: NodeId): void
  take(directory: NodeId, name: Buffer): void
  /** Writes the next cookie to the database. */
  write(): void
  /** To be called when changes since the last commit were undone. */
  forget(): void
}

/** Cookies of new names begin here. Cookies below are places among the names of the image. */
export const firstNewCookie = 2 ** 32
/** The cookie of an entry whose name the image has, too: it is listed at its place in the image. */
export const placeInImage = 0
const maxName = 255
const listedAtOnce = 256
/** Names of the image that are read first. Batches grow, since many listings end after a few. */
const firstBatch = 16
/** Removed names are skipped together if there are at least this many in a row. */
const leastRun = 64
/** If there are more in a row, they are counted in pieces. */
const countedAtOnce = 2 ** 14

/** Places of names of the image that were all removed. */
interface TakenRun {
  from: number
  /** The place after them. */
  to: number
  /** While there may be more. */
  counting: Promise<void> | undefined
}

function beingCounted(directory: NodeId, until: Promise<void>): FileSystemError {
  return new FileSystemError('EAGAIN', `the removed names of node ${directory} are being counted`, {
    until,
  })
}

/** @param overridden the directories that have entries in the layer */
export function createDirectories(
  database: LayerDatabase,
  image: LayerImage,
  nodes: Nodes,
  overridden: Set<NodeId>,
): Directories {
  let nextCookie = Number(database.readMeta('nextCookie') ?? firstNewCookie)
  let writtenCookie = nextCookie
  /** Long runs of removed names, by directory. */
  const taken = new Map<NodeId, TakenRun>()

  function* list(directory: NodeId, after: number): Generator<DirectoryEntry> {
    nodes.findDirectory(directory)
    yield* listImage(directory, after)
    if (!overridden.has(directory)) return
    for (let cookie = Math.max(after, firstNewCookie - 1); ;) {
      const entries = database.listEntries(directory, cookie, listedAtOnce)
      for (const { name, node, cookie: place } of entries) {
        cookie = place
        if (node !== undefined) yield { name, node, cookie }
      }
      if (entries.length < listedAtOnce) return
    }
  }

  /** The names of the image that still exist. */
  function* listImage(directory: NodeId, after: number): Generator<DirectoryEntry> {
    const isOverridden = overridden.has(directory)
    let place = after
    for (let size = firstBatch; ; size = Math.min(size * 4, listedAtOnce)) {
      if (isOverridden) place = afterTaken(directory, place)
      const batch = childrenFrom(directory, place, size)
      const changed = isOverridden ? changedAmong(directory, batch) : undefined
      for (const { name, node: ofImage } of batch) {
        place++
        const node = changed ? nodeNow(changed, name, ofImage) : ofImage
        if (node !== undefined) yield { name, node, cookie: place }
      }
      if (batch.length < size) return
    }
  }

  function nodeNow(
    changed: Map<string, NodeId | undefined>,
    name: Buffer,
    ofImage: NodeId,
  ): NodeId | undefined {
    const key = name.toString('latin1')
    return changed.has(key) ? changed.get(key) : ofImage
  }

  function childrenFrom(directory: NodeId, place: number, limit: number): ImageChild[] {
    const children: ImageChild[] = []
    while (children.length < limit) {
      const child = image.childAt(directory, place + children.length)
      if (!child) break
      children.push(child)
    }
    return children
  }

  /** The nodes that these names have in the layer, by the name as latin1; undefined: removed. */
  function changedAmong(
    directory: NodeId,
    batch: readonly ImageChild[],
  ): Map<string, NodeId | undefined> {
    const [first, last] = [batch[0], batch.at(-1)]
    const entries = first && last ? database.entriesInImage(directory, first.name, last.name) : []
    return new Map(entries.map(({ name, node }) => [name.toString('latin1'), node]))
  }

  /**
   * Skips names that were removed. Removed names are counted many at a time, not read, because
   * reading all names of a directory whose names were all removed would take long.
   *
   * @returns the first place that may have a name
   * @throws `EAGAIN` while very many names are being counted
   */
  function afterTaken(directory: NodeId, from: number): number {
    const known = taken.get(directory)
    const isKnown = known !== undefined && known.from <= from && from < known.to
    if (isKnown && known.counting) throw beingCounted(directory, known.counting)
    const { place, isEnd } = countTaken(directory, isKnown ? known.to : from)
    if (isEnd) return place
    const run: TakenRun = { from: isKnown ? known.from : from, to: place, counting: undefined }
    taken.set(directory, run)
    run.counting = countOn(directory, run).finally(() => (run.counting = undefined))
    throw beingCounted(directory, run.counting)
  }

  /** @returns the place after names that were removed, and whether the next name may still be there */
  function countTaken(directory: NodeId, from: number): { place: number; isEnd: boolean } {
    let place = from
    for (let run = leastRun; run >= leastRun;) {
      const first = image.childAt(directory, place)
      const last = image.childAt(directory, place + run - 1)
      if (first && last && database.countTaken(directory, first.name, last.name) === run) {
        place += run
        if (place - from >= countedAtOnce) return { place, isEnd: false }
        run = Math.min(run * 2, countedAtOnce / 2)
      } else {
        run = Math.floor(run / 2)
      }
    }
    return { place, isEnd: true }
  }

  /** Counts in pieces. Ends early if the names have changed or cannot be counted: the next call tells why. */
  async function countOn(directory: NodeId, run: TakenRun): Promise<void> {
    try {
      for (let isEnd = false; !isEnd;) {
        await nextPiece()
        if (taken.get(directory) !== run) return
        const counted = countTaken(directory, run.to)
        run.to = counted.place
        ;({ isEnd } = counted)
      }
    } catch {
      taken.delete(directory)
    }
  }

  return {
    list,
    lookup(directory, name) {
      if (name.length > maxName) throw failure('ENAMETOOLONG', 'a name has more than 255 bytes')
      const { parent } = nodes.findDirectory(directory)
      if (isDots(name)) return name.length === 1 ? directory : parent
      const entry = overridden.has(directory) ? database.readEntry(directory, name) : undefined
      return entry ? entry.node : image.child(directory, name)
    },
    mustBeEmpty(directory) {
      const [first] = list(directory, 0)
      if (first) throw failure('ENOTEMPTY', `${first.name.toString()} is in the directory`)
    },
    put(directory, name, node) {
      // A name keeps its place if it names another node.
      const isInImage = image.child(directory, name) !== undefined
      taken.delete(directory)
      const known = overridden.has(directory) ? database.readEntry(directory, name) : undefined
      const cookie = isInImage ? placeInImage : (known?.cookie ?? nextCookie++)
      database.writeEntry(directory, { name, node, cookie })
      overridden.add(directory)
    },
    take(directory, name) {
      if (image.child(directory, name) === undefined) database.deleteEntry(directory, name)
      else database.writeEntry(directory, { name, node: undefined, cookie: placeInImage })
      overridden.add(directory)
    },
    write() {
      if (nextCookie !== writtenCookie) database.writeMeta('nextCookie', nextCookie)
      writtenCookie = nextCookie
    },
    forget: () => taken.clear(),
  }
}

/** Checks a name that is to be made or removed. @throws `ENAMETOOLONG`, `EINVAL` */
export function checkName(name: Buffer): void {
  if (name.length > maxName) throw failure('ENAMETOOLONG', 'a name has more than 255 bytes')
  if (name.length === 0 || name.includes(0) || name.includes('/') || isDots(name)) {
    throw failure('EINVAL', 'this is not a valid name')
  }
}
