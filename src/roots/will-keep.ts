/**
 * Tells what will stay on a machine although an image brings something else: what the next binding of its
 * layer to this image will tell as well, see bind-outside.ts, and also what is in directories that the machine
 * has moved. Changes nothing.
 */
import { unescapeBytes, type TreeFile } from '../tree-files.ts'
import { changesAttributeOf, isOtherFile } from './bind-compare.ts'
import { keyOf } from './bind-rows.ts'
import { readBoundFiles, type BoundFile } from './bound-files.ts'
import { readCopy } from './copied-database.ts'
import type { LayerDatabase } from './database.ts'
import { placeInImage } from './directories.ts'
import { createKept, type KeptFiles } from './kept-files.ts'
import type { NodeRow } from './layer-rows.ts'
import { firstOwn, rootNode } from './numbers.ts'
import { doNow } from './steps.ts'
import { layerError } from './store.ts'

/** What an image brings at a path outside its store paths. */
type Brought = Omit<BoundFile, 'number' | 'path' | 'modified'>

/** By path as `keyOf` gives it, with a slash before each name. */
export type BroughtFiles = ReadonlyMap<string, Brought>

/** @param files of the root tree, as the manifest of the image lists them */
export function broughtBy(files: readonly TreeFile[]): BroughtFiles {
  const root: Brought = { ...made, kind: 'directory', mode: 0o755 }
  const found = new Map([['', root]])
  for (const file of files) {
    const path = Buffer.concat([Buffer.from('/'), unescapeBytes(file.path)])
    found.set(keyOf(path), describe(file))
  }
  return found
}

const made = { uid: 0, gid: 0, target: undefined, content: undefined }

function describe(file: TreeFile): Brought {
  if (file.type === 'symlink') {
    return { ...made, kind: 'symlink', mode: 0o777, target: unescapeBytes(file.target) }
  }
  const mode = Number.parseInt(file.mode, 8)
  if (file.type === 'directory') return { ...made, kind: 'directory', mode }
  return { ...made, kind: 'file', mode, content: file.sha256 }
}

/**
 * @param directory of the contents of a layer, whose machine may run
 * @returns undefined if the layer does not know what its image brought
 * @throws `NetimageError` `bad-state`, `in-use`, `file-system`
 */
export function willKeep(directory: string, files: BroughtFiles): KeptFiles | undefined {
  try {
    return readCopy(directory, (database) => keptOf(database, files))
  } catch (error) {
    throw layerError(`could not read the layer ${directory}`, directory, error)
  }
}

/** With the condition of the index `entries_of_images`. */
const namesOfNode = `node = ? AND node < ${firstOwn}`

function keptOf(database: LayerDatabase, files: BroughtFiles): KeptFiles | undefined {
  const bound = doNow(readBoundFiles(database))
  if (bound.length === 0) return undefined
  const before = new Map(bound.map((file) => [file.number, file]))
  const numbers = new Map(bound.map(({ path, number }) => [keyOf(path), number]))
  /** By the numbers and paths of all files that images ever brought. */
  const given = [...database.eachFileNumber()].map(
    ({ number, path }) => [keyOf(path), number] as const,
  )
  const numberOf = new Map(given)
  const placeOf = new Map([
    [rootNode, ''],
    ...given.map(([path, number]) => [number, path] as const),
  ])
  /** All names of each file. */
  const paths = Map.groupBy(bound, ({ number }) => number)
  const kept = createKept()

  function isChanged(row: NodeRow, file: BoundFile): boolean {
    const { id, kind, ownData, target, modified } = row
    if (ownData || target !== undefined || isNamed(id)) return true
    if (row.mode !== file.mode || row.uid !== file.uid || row.gid !== file.gid) return true
    if (kind === 'directory') return hasNames(id)
    const { seconds, nanoseconds } = file.modified
    return modified.seconds !== seconds || modified.nanoseconds !== nanoseconds
  }

  /** Whether the machine has given a name to the node. */
  function isNamed(id: number): boolean {
    for (const { directory, name } of database.eachEntry(namesOfNode, id)) {
      if (numbers.get(pathIn(directory, name)) !== id) return true
    }
    return false
  }

  /** Whether it is a directory that stayed in its place although the image before has none there. */
  function isStayed({ id, kind, links }: NodeRow, file: BoundFile | undefined): boolean {
    if (kind !== 'directory' || file?.kind === kind || links === 0) return false
    for (const { directory, name } of database.eachEntry(namesOfNode, id)) {
      if (pathIn(directory, name) !== placeOf.get(id)) return false
    }
    return true
  }

  function tellStayed(id: number, isBefore: boolean): void {
    const path = placeOf.get(id) ?? ''
    const now = files.get(path)
    if (now?.kind === 'directory' || (!now && !isBefore)) return
    kept.tell(now ? 'changed-both' : 'gone-from-image', () => Buffer.from(path, 'latin1'))
  }

  function hasNames(directory: number): boolean {
    for (const _ of database.eachEntry('directory = ? AND node IS NOT NULL', directory)) return true
    return false
  }

  /** @returns as `keyOf` does */
  function pathIn(directory: number, name: Buffer): string {
    return `${placeOf.get(directory) ?? '?'}/${keyOf(name)}`
  }

  function bringsAt(id: number): Brought | undefined {
    const names = paths.get(id) ?? []
    return names.map(({ path }) => files.get(keyOf(path))).find((each) => each !== undefined)
  }

  for (const row of database.eachNode(`id < ${firstOwn}`)) {
    const file = before.get(row.id)
    if (isStayed(row, file)) tellStayed(row.id, file !== undefined)
    else if (file) {
      const why = whyKept(row, file, bringsAt(row.id), () => isChanged(row, file))
      if (why) kept.tell(why, () => file.path)
    }
  }
  const inImages = `directory < ${firstOwn} AND node IS NOT NULL AND cookie <> ${placeInImage}`
  for (const { directory, name, node } of database.eachEntry(inImages)) {
    const path = pathIn(directory, name)
    const isBrought = files.has(path) && numberOf.get(path) !== node
    if (isBrought) kept.tell('added-both', () => Buffer.from(path, 'latin1'))
  }
  return kept.all()
}

function whyKept(
  row: NodeRow,
  before: BoundFile,
  now: Brought | undefined,
  isChanged: () => boolean,
) {
  if (row.links === 0) return now && isOtherFile(before, now) ? 'removed-here' : undefined
  // Kept at an earlier binding: it is only the machine's.
  if (before.kind !== row.kind) return undefined
  if (now?.kind === row.kind) {
    const isBoth = (row.ownData && isOtherFile(before, now)) || changesAttributeOf(row, before, now)
    return isBoth ? 'changed-both' : undefined
  }
  if (!isChanged()) return undefined
  return now ? 'changed-both' : 'gone-from-image'
}
