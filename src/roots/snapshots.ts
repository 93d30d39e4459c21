/** Snapshots: copies of the contents of layers. They share data if the file system can. */
import { randomBytes } from 'node:crypto'
import { existsSync, lstatSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { databaseError, isDatabaseBroken } from '../database-error.ts'
import { explained, NetimageError } from '../errors.ts'
import { makeDirectory } from '../make-directory.ts'
import { openUnchanging } from '../state-database.ts'
import type { Warn } from '../tidy.ts'
import { copyContents, type CopySettings } from './copy-contents.ts'
import { readBound, readKept } from './bind-record.ts'
import { databaseFile, type StatementValue } from './database.ts'
import { emptyLogOf, refuseNewerLayer } from './database-file.ts'
import { mustHaveNoLog } from './log-file.ts'
import { namesIn } from './names-in.ts'
import { giveToOwnerOf } from './owner.ts'
import { newName, writeRecordSoon, type LayerRecord } from './record.ts'
import { makeReady } from './present-format.ts'
import { measureContents, needRecord, withLayer } from './store.ts'
import type { StoredLayer } from './stored-layer.ts'
import { sweep, sweepInBackground } from './sweep.ts'
import { syncDirectorySoon } from '../sync-directory.ts'

export interface Snapshot {
  name: string
  /** Milliseconds since 1970. */
  created: number
  bytes: number
}

export function listSnapshots(layer: StoredLayer): Snapshot[] {
  return listNames(layer).map((name) => {
    const directory = join(snapshotsOf(layer), name)
    return { name, created: statSync(directory).mtimeMs, bytes: measureContents(directory).bytes }
  })
}

export function listNames(layer: StoredLayer): string[] {
  return namesIn(snapshotsOf(layer)).filter((name) => !name.startsWith('.'))
}

export type SnapshotImages = Required<Pick<LayerRecord, 'image' | 'keptImages' | 'kept'>>

/** What contents were last bound to, and the identifier of the boot, if they have one. */
type BoundContents = SnapshotImages & { boot?: string }

/**
 * The images that the snapshots of the layer need, if somebody restores them. Those that are damaged
 * are left out.
 *
 * @param record of the layer
 * @throws `NetimageError` also `bad-state` for a snapshot of a newer netimage
 */
export function imagesOfSnapshots(layer: StoredLayer, record: LayerRecord): SnapshotImages[] {
  return listNames(layer).flatMap((name) => readBoundOf(snapshotOf(layer, name), record) ?? [])
}

/**
 * @param record of the layer
 * @returns undefined for contents that are damaged or were removed meanwhile
 */
function readBoundOf(contents: string, record: LayerRecord): BoundContents | undefined {
  const file = databaseFile(contents)
  if (!existsSync(file)) return undefined
  try {
    const database = openUnchanging(file)
    try {
      refuseNewerLayer(database, file)
      const asked = {
        select: (sql: string, ...values: StatementValue[]) => database.prepare(sql).all(...values),
      }
      const [table] = asked.select("SELECT 1 FROM sqlite_schema WHERE name = 'binding'")
      const bound = table && readBound(asked)
      if (!bound) return boundEarlier(record)
      const { boot, image, keptImages } = bound
      return { boot, image, keptImages: [...keptImages], kept: readKept(asked) }
    } finally {
      database.close()
    }
  } catch (error) {
    if (error instanceof NetimageError) throw error
    if (isDatabaseBroken(error) || !existsSync(file)) return undefined
    throw databaseError(`could not read ${contents}`, error, {
      details: { file: contents },
    })
  }
}

/** Contents of an earlier version, whose layers had one image each, do not name their image. */
function boundEarlier({ image, firstImage = image }: LayerRecord): BoundContents {
  return { image: firstImage, keptImages: [], kept: { files: [], more: 0 } }
}

/** @throws `NetimageError` `in-use`, `bad-usage`, `output-exists`, `path-not-found` */
export async function takeSnapshot(layer: StoredLayer, name: string): Promise<void> {
  mustBeName(name)
  await withLayer(layer, async () => {
    if (hasSnapshot(layer, name)) {
      throw new NetimageError('output-exists', `${layer.machine} has a snapshot ${name} already`, {
        details: { file: snapshotOf(layer, name) },
        hint: 'Give the new snapshot another name.',
      })
    }
    await copyToSnapshot(layer, name)
  })
}

/** Not `existsSync`: it ignores the capabilities of a service that may read everything. */
export function hasSnapshot(layer: StoredLayer, name: string): boolean {
  return lstatSync(snapshotOf(layer, name), { throwIfNoEntry: false }) !== undefined
}

/**
 * Copies the current contents. The snapshot gets its name when it is whole and on the disk.
 *
 * @param layer whose lock the caller holds, without a snapshot of this name
 * @returns false if the file system cannot clone and the copy must be a clone
 */
export async function copyToSnapshot(
  layer: StoredLayer,
  name: string,
  settings: CopySettings = {},
): Promise<boolean> {
  const snapshots = snapshotsOf(layer)
  const contents = join(layer.directory, needRecord(layer).name)
  if (existsSync(databaseFile(contents))) emptyLog(contents)
  makeDirectory(snapshots)
  const scratch = join(snapshots, `.new-${randomBytes(6).toString('hex')}`)
  if (!(await copyContents(contents, scratch, settings))) return false
  giveToOwnerOf(layer.directory, snapshots)
  renameSync(scratch, snapshotOf(layer, name))
  await syncDirectorySoon(snapshots)
  await syncDirectorySoon(layer.directory)
  return true
}

/**
 * @param layer whose lock the caller holds
 * @returns the identifier of the boot for which the current contents were last bound, if they have one;
 *   undefined if there are no contents
 */
export function lastBindingOf(layer: StoredLayer): { boot?: string } | undefined {
  const record = needRecord(layer)
  const contents = join(layer.directory, record.name)
  if (!existsSync(databaseFile(contents))) return undefined
  emptyLog(contents)
  const boot = readBoundOf(contents, record)?.boot
  return boot === undefined ? {} : { boot }
}

/**
 * Puts the layer back as it was then; later changes are lost. The layer gets a new name, so that
 * machines cannot use old handles: these may be of nodes that came later.
 *
 * @throws `NetimageError` `in-use`, `bad-usage`, `path-not-found`; `bad-state` if the snapshot cannot be
 *   used. The layer is as before then
 */
export async function restoreSnapshot(layer: StoredLayer, name: string, warn: Warn): Promise<void> {
  mustBeName(name)
  await withLayer(layer, async () => {
    await copyFromSnapshot(layer, name)
    sweep(layer.directory, warn)
  })
}

/**
 * As `restoreSnapshot`, but the contents from before stay until they are swept.
 *
 * @param layer whose lock the caller holds
 */
export async function copyFromSnapshot(
  layer: StoredLayer,
  name: string,
  settings: Omit<CopySettings, 'mustClone'> = {},
): Promise<void> {
  const record = needRecord(layer)
  if (!hasSnapshot(layer, name)) throw noSnapshot(layer, name)
  const source = snapshotOf(layer, name)
  try {
    // The images of the snapshot, and not those that the machine had last.
    const { image, keptImages, kept } = readBoundOf(source, record) ?? ifEmpty(source, record)
    const bound = { image, keptImages, kept }
    const copied = { ...record, ...bound, name: newName(), created: Date.now() }
    const contents = join(layer.directory, copied.name)
    await copyContents(source, contents, settings)
    giveToOwnerOf(layer.directory, contents)
    const restored = makeReady(layer.directory, copied)
    // The name of the contents must be on the disk before the record that refers to it.
    await syncDirectorySoon(layer.directory)
    await writeRecordSoon(layer.directory, restored)
  } catch (error) {
    // The server tries again and again, so no copies may pile up. It goes on to serve meanwhile.
    await sweepInBackground(layer.directory).done
    throw notRestored(layer, name, error)
  }
}

/** @throws `NetimageError` `in-use`, `bad-usage`, `path-not-found` */
export async function removeSnapshot(layer: StoredLayer, name: string, warn: Warn): Promise<void> {
  mustBeName(name)
  await withLayer(layer, async () => {
    if (!hasSnapshot(layer, name)) throw noSnapshot(layer, name)
    await giveUpSnapshot(layer, name)
    sweep(layer.directory, warn)
  })
}

/**
 * Takes its name from a snapshot. Its files are removed when they are swept.
 *
 * @param layer whose lock the caller holds
 */
export async function giveUpSnapshot(layer: StoredLayer, name: string): Promise<void> {
  const removed = `.removed-${name}-${randomBytes(6).toString('hex')}`
  renameSync(snapshotOf(layer, name), join(snapshotsOf(layer), removed))
  await syncDirectorySoon(snapshotsOf(layer))
}

function snapshotsOf({ directory }: StoredLayer): string {
  return join(directory, 'snapshots')
}

function mustBeName(name: string): void {
  if (/^[A-Za-z0-9][\w.-]{0,63}$/.test(name)) return
  throw new NetimageError('bad-usage', `'${name}' cannot be the name of a snapshot`, {
    details: { field: 'snapshot', actual: name },
    hint: 'Use up to 64 letters, digits and . _ -, beginning with a letter or digit.',
  })
}

export function snapshotOf(layer: StoredLayer, name: string): string {
  return join(snapshotsOf(layer), name)
}

function noSnapshot(layer: StoredLayer, name: string): NetimageError {
  const names = listSnapshots(layer).map((snapshot) => snapshot.name)
  const hint =
    names.length === 0 ? 'The layer has no snapshots.' : `The layer has: ${names.join(', ')}.`
  return new NetimageError('path-not-found', `${layer.machine} has no snapshot ${name}`, {
    details: { file: snapshotOf(layer, name) },
    hint,
  })
}

/** @throws `NetimageError` `bad-state` if the snapshot has a database: then it is damaged */
function ifEmpty(snapshot: string, record: LayerRecord): LayerRecord {
  const file = databaseFile(snapshot)
  if (!existsSync(file)) return record
  throw new NetimageError('bad-state', `the database ${file} is damaged`, {
    details: { file },
    hint: 'Restore another snapshot. The layer is as it was before.',
  })
}

function notRestored({ machine, directory }: StoredLayer, name: string, error: unknown): unknown {
  const doing = `could not restore the snapshot ${name} of ${machine}`
  if (error instanceof NetimageError) return explained(error, `${doing}: ${error.message}`, {})
  if (!isDatabaseBroken(error)) return error
  return databaseError(doing, error, {
    details: { file: directory },
    hint: 'The snapshot is damaged. Restore another one. The layer is as it was before.',
  })
}

/** Moves the log into the database. */
function emptyLog(contents: string): void {
  emptyLogOf(databaseFile(contents))
  mustHaveNoLog(databaseFile(contents))
}
