/**
 * What can be done with the layer of a machine in a state directory: see stored-layer.ts. Its directory
 * has:
 *
 *     record.json     the image that it was last bound to, and the name of the current contents
 *     <name>/         the current contents: layer.sqlite, data/ (see layer.ts)
 *     snapshots/      copies of earlier contents, by the names that people gave
 *     ../root.lock    held while the layer is open
 *
 * Replacing the record makes other contents current in one step. Contents that are not current are
 * swept.
 */
import { randomBytes } from 'node:crypto'
import { renameSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { databaseError, isDatabaseBroken, isDatabaseFull } from '../database-error.ts'
import { fileSystemError, NetimageError } from '../errors.ts'
import { tryLock, waitForLock } from '../lock.ts'
import { syncDirectory } from '../sync-directory.ts'
import { tidy, type Warn } from '../tidy.ts'
import { dataFolder } from './data-files.ts'
import { namesIn } from './names-in.ts'
import { newName, readRecord, writeRecordInSteps, type LayerRecord } from './record.ts'
import { refuseLinks } from './refuse-links.ts'
import { giveUpReserveOf } from './reserve.ts'
import { doNow, type Steps } from './steps.ts'
import { inUse, type StoredLayer } from './stored-layer.ts'
import { sweep } from './sweep.ts'
import { measureInSteps as measureFilesInSteps } from './usage.ts'

const diskHint = 'Make room on that disk, or repair it. The layer has not lost anything.'
const brokenHint =
  'Its database is damaged. Restore a snapshot with: netimage layers restore. Or remove what the machine wrote with: netimage layers reset.'

/** How long another command may hold the lock to look at a layer. Milliseconds. */
const lockWaitMs = 200

/** @param directory of a layer, of which the error tells that it has not lost anything */
export function layerError(doing: string, directory: string, error: unknown): Error {
  if (!isDatabaseFull(error) && !isDatabaseBroken(error)) {
    return fileSystemError(doing, error, { hint: diskHint })
  }
  return databaseError(doing, error, { details: { file: directory }, hint: brokenHint })
}

/**
 * @param warn called for each path that could not be deleted
 * @throws `NetimageError` `in-use`, `bad-state`
 */
export function resetLayer(layer: StoredLayer, warn: Warn): Promise<void> {
  return withLayer(layer, () => {
    const record = readRecord(layer.directory)
    if (record) doNow(beginAnewInSteps(layer.directory, record))
    sweep(layer.directory, warn)
  })
}

/** Makes new contents the current ones. This takes no time: the old contents are swept later. */
export function* beginAnewInSteps(directory: string, record: LayerRecord): Steps<LayerRecord> {
  const anew = { ...record, name: newName(), created: Date.now() }
  const contents = join(directory, record.name)
  try {
    yield* writeRecordInSteps(directory, anew)
  } catch (error) {
    giveUpReserveOf(contents, error)
    yield* writeRecordInSteps(directory, anew)
  }
  return anew
}

/**
 * Removes the layer and its snapshots.
 *
 * @param warn called for each path that could not be deleted
 * @throws `NetimageError` `in-use`
 */
export function removeLayer(layer: StoredLayer, warn: Warn): Promise<void> {
  return withLayer(layer, () => {
    const removed = join(dirname(layer.directory), `.removed-${randomBytes(6).toString('hex')}`)
    renameSync(layer.directory, removed)
    syncDirectory(dirname(layer.directory))
    tidy(removed, warn)
  })
}

/** Whether a server or another command has the layer open. */
export function isInUse(layer: StoredLayer): boolean {
  const lock = tryLock(layer.lock, 'shared')
  lock?.release()
  return lock === undefined
}

/** Runs the action with the layer locked. @throws `NetimageError` `in-use`, errors of the action */
export async function withLayer<T>(layer: StoredLayer, action: () => T): Promise<Awaited<T>> {
  try {
    const lock = await waitForLock(layer.lock, 'exclusive', lockWaitMs)
    if (!lock) throw inUse(layer)
    try {
      refuseLinks(layer.directory)
      return await action()
    } finally {
      lock.release()
    }
  } catch (error) {
    throw layerError(`could not use the layer ${layer.directory}`, layer.directory, error)
  }
}

export interface LayerSize {
  /** Bytes on the disk. */
  bytes: number
  /** Files that have data of their own. */
  files: number
}

/** Measures the current contents. */
export function measureLayer(layer: StoredLayer): LayerSize {
  return doNow(measureLayerInSteps(layer))
}

/** As `measureLayer`. */
export function* measureLayerInSteps({ directory }: StoredLayer): Steps<LayerSize> {
  const record = readRecord(directory)
  return record ? yield* measureInSteps(join(directory, record.name)) : { bytes: 0, files: 0 }
}

export function measureContents(contents: string): LayerSize {
  return doNow(measureInSteps(contents))
}

function* measureInSteps(contents: string): Steps<LayerSize> {
  const data = dataFolder(contents)
  const bytes = (yield* measureFilesInSteps(contents)) + (yield* measureFilesInSteps(data))
  return { bytes, files: namesIn(data).length }
}

/** @throws `NetimageError` `path-not-found` if there is no record */
export function needRecord({ machine, directory }: StoredLayer): LayerRecord {
  const record = readRecord(directory)
  if (record) return record
  throw new NetimageError('path-not-found', `${machine} has no layer in ${directory}`, {
    details: { file: directory },
    hint: 'List all layers with: netimage layers list.',
  })
}
