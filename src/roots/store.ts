/**
 * The layer of a machine in a state directory: see stored-layer.ts. Its directory has:
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
import { existsSync, renameSync, rmdirSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { databaseError, isDatabaseBroken, isDatabaseFull } from '../database-error.ts'
import { fileSystemError, isDiskFull, NetimageError } from '../errors.ts'
import { makeDirectory } from '../make-directory.ts'
import { tryLock, waitForLock } from '../lock.ts'
import { BoundOtherwise, type Binding, type BoundImage, type KeptImage } from './bind.ts'
import type { BootFilePath } from './bind-boot-files.ts'
import { dataFolder } from './data-files.ts'
import { databaseFile, openLayerDatabase } from './database.ts'
import { OlderFormat } from './database-file.ts'
import type { FileSystem } from '../protocols/nfs/file-system.ts'
import type { ImageIndex } from './image-index.ts'
import { openLayer, type Layer } from './layer.ts'
import type { LayerImage } from './layer-image.ts'
import { findImage } from './find-image.ts'
import { migrateContents } from './migrate.ts'
import { namesIn } from './names-in.ts'
import { giveToOwnerOf } from './owner.ts'
import { UnpreparedCopies } from './prepare-copies.ts'
import { newName, noteUse, readRecord, writeRecord, type LayerRecord } from './record.ts'
import { refuseLinks } from './refuse-links.ts'
import { dropReserve } from './reserve.ts'
import { sweep, sweepInBackground } from './sweep.ts'
import { adoptOlder, inUse, layerOf, type StoredLayer } from './stored-layer.ts'
import { syncDirectory } from '../sync-directory.ts'
import { tidy, type Warn } from '../tidy.ts'
import { measureFiles } from './usage.ts'

export interface MachineLayer {
  /** Changes if the numbers of nodes can mean other nodes: after a reset or a restore. */
  name: string
  fileSystem: FileSystem
  /** The image below, without what the machine changed. */
  image: LayerImage
  close(): Promise<void>
}

export interface MachineLayerRequest {
  state: string
  /** A hardware address, or an IP address. */
  machine: string
  /** The image whose files outside the store paths the machine sees. */
  image: Omit<BoundImage, 'identity'>
  /** Further images whose store paths the machine sees. Default: none. */
  keptImages?: readonly KeptImage[] | undefined
  /** The index of all these images. */
  index: ImageIndex
  /**
   * A boot of the machine. The layer is bound anew if it was last bound at another boot: see bind.ts.
   * Default: it is bound anew only if it was bound to other images.
   */
  boot?: string | undefined
  /** Files that say something of one boot, which the machine loses at its next boot. Default: none. */
  bootFiles?: readonly BootFilePath[] | undefined
  /**
   * When everything that the machine wrote is removed, except snapshots: now, or if the layer was last
   * bound at another boot. The old contents are deleted in the background. Default: never.
   */
  reset?: 'now' | 'at-another-boot' | undefined
  /** The most bytes that the layer may take on the disk. Default: no limit. */
  most?: number | undefined
  /** Bytes that the server has taken for the machine elsewhere, which count as well. Default: none. */
  takenElsewhere?: (() => number) | undefined
}

const diskHint = 'Make room on that disk, or repair it. The layer has not lost anything.'
const brokenHint =
  'Its database is damaged. Restore a snapshot with: netimage layers restore. Or remove what the machine wrote with: netimage layers reset.'

/** How long another command may hold the lock to look at a layer. Milliseconds. */
const lockWaitMs = 200

/**
 * @throws `NetimageError` `bad-state`, `in-use`
 * @throws `UnpreparedCopies`: the layer stays locked, and the index must stay open, until
 *   `prepareCopies` has ended. Then the layer can be opened.
 */
export function openMachineLayer(request: MachineLayerRequest): MachineLayer {
  const { state, machine, index } = request
  const place = layerOf(state, machine)
  try {
    makeDirectory(dirname(place.directory))
    // Without waiting: this blocks the server.
    const lock = tryLock(place.lock, 'exclusive')
    if (!lock) throw inUse(place)
    try {
      adoptOlder(state, place, index.identity)
      makeDirectory(place.directory)
      const before = readRecord(place.directory)
      const found = before ?? firstRecord(request)
      makeDirectory(join(place.directory, found.name))
      if (!before) keepRecord(place.directory, found, state)
      const binding: Binding = {
        ...{ id: request.boot, image: boundImage(request), imageBefore: before?.image },
        keptImages: request.keptImages ?? [],
        bootFiles: request.bootFiles,
        indexOf: findImage,
      }
      const reset = before ? request.reset : undefined
      const { record, layer } = openContents({ ...request, reset }, place.directory, found, binding)
      const { kept } = layer
      const { image, keptImages } = binding
      const current = {
        ...{ ...record, image, keptImages: [...keptImages], kept, lastUsed: Date.now() },
        ...(before && { firstImage: record.firstImage ?? before.image }),
      }
      // After the binding: until then, the record names the image that the layer was bound to.
      if (before) noteUse(place.directory, current)
      const sweeping = sweepInBackground(place.directory)
      return {
        name: record.name,
        fileSystem: layer.fileSystem,
        image: layer.image,
        async close() {
          try {
            await sweeping.stop()
            await layer.close()
            noteUse(place.directory, { ...current, lastUsed: Date.now() })
          } finally {
            lock.release()
          }
        },
      }
    } catch (error) {
      if (error instanceof UnpreparedCopies) error.held.defer(() => lock.release())
      else lock.release()
      throw error
    }
  } catch (error) {
    if (error instanceof UnpreparedCopies) throw error
    throw layerError(`could not open the layer ${place.directory}`, place.directory, error)
  }
}

/** Opens the contents of a layer. If the request wants a reset that fails, nothing is opened. */
function openContents(
  { index, most, takenElsewhere, reset }: MachineLayerRequest,
  directory: string,
  record: LayerRecord,
  binding: Binding,
): { record: LayerRecord; layer: Layer } {
  const openBound = (contents: string, how: Binding) =>
    openLayer(contents, index, most, how, takenElsewhere)
  const open = (from: LayerRecord) => {
    const used = useContents(directory, from, index, (contents) => openBound(contents, binding))
    return { record: used.record, layer: used.result }
  }
  const openNew = () => {
    const anew = beginAnew(directory, record)
    makeDirectory(join(directory, anew.name))
    try {
      return open(anew)
    } catch (error) {
      if (!isFull(error)) throw error
      // The old contents would be swept in the background only once the layer is open.
      sweep(directory, () => {})
      return open(anew)
    }
  }
  if (reset === undefined) return open(record)
  if (reset === 'now') return openNew()
  try {
    const same = { ...binding, onlySame: true }
    return { record, layer: openBound(join(directory, record.name), same) }
  } catch (error) {
    if (error instanceof BoundOtherwise || error instanceof OlderFormat) return openNew()
    throw error
  }
}

/** Writes the record of a new layer. On failure, there are no contents. */
function keepRecord(directory: string, record: LayerRecord, state: string): void {
  try {
    // Before the record: if there is a record, these directories are known to be on the disk.
    syncUp(dirname(directory), state)
    writeRecord(directory, record)
  } catch (error) {
    // The next try makes another directory.
    tidy(join(directory, record.name), () => {}, rmdirSync)
    throw error
  }
}

function layerError(doing: string, directory: string, error: unknown): Error {
  if (!isDatabaseFull(error) && !isDatabaseBroken(error)) {
    return fileSystemError(doing, error, { hint: diskHint })
  }
  return databaseError(doing, error, { details: { file: directory }, hint: brokenHint })
}

/**
 * Uses the contents of a layer. Contents of format 1 are migrated first, with their own image.
 *
 * @param directory of a layer whose lock the caller holds
 * @param index of any image: it is used if it is the image of the contents
 * @param use opens the contents in this directory
 * @returns also the record of the contents that were used
 */
export function useContents<T>(
  directory: string,
  record: LayerRecord,
  index: ImageIndex,
  use: (contents: string) => T,
): { record: LayerRecord; result: T } {
  try {
    return { record, result: use(join(directory, record.name)) }
  } catch (error) {
    if (!(error instanceof OlderFormat)) throw error
    const migrated = migrateWithOwnImage(directory, record, index)
    return { record: migrated, result: use(join(directory, migrated.name)) }
  }
}

function migrateWithOwnImage(
  directory: string,
  record: LayerRecord,
  index: ImageIndex,
): LayerRecord {
  const { image } = record
  // The image as it was built comes first, because the store paths are in its root tree.
  using stack = new DisposableStack()
  const found = findImage(image)
  if (found) stack.defer(() => found.close())
  const own = found ?? (image.identity === index.identity ? index : undefined)
  if (own) return migrateLayer(directory, record, own)
  throw new NetimageError(
    'bad-state',
    `the layer ${directory} was made by an older netimage over the image ${image.directory}, which is not there any more`,
    {
      details: { file: image.directory, expected: image.identity },
      hint: 'Put that image back, and boot the machine again. Or remove what the machine wrote: netimage layers reset.',
    },
  )
}

/**
 * Brings a layer of format 1 to the present format. The new contents have another name, so that
 * handles of running machines, whose numbers mean other nodes now, are stale.
 *
 * @returns the new record
 */
function migrateLayer(directory: string, record: LayerRecord, index: ImageIndex): LayerRecord {
  // Migrations that failed before may have left contents, which take room.
  sweep(directory, () => {})
  const migrated = migrateBeside(directory, record, index)
  withReserveOf(join(directory, record.name), () => writeRecord(directory, migrated))
  return migrated
}

/** @returns the record of the new contents, which is not written yet */
function migrateBeside(directory: string, record: LayerRecord, index: ImageIndex): LayerRecord {
  const migrated = { ...record, name: newName() }
  const before = join(directory, record.name)
  const contents = join(directory, migrated.name)
  withReserveOf(before, () => migrateContents(before, contents, index))
  giveToOwnerOf(directory, contents)
  // The name of the contents must be on the disk before the record that refers to it.
  syncDirectory(directory)
  return migrated
}

/**
 * Makes sure that contents can be opened before they become the current ones, and brings them to the
 * present format.
 *
 * @param directory of a layer whose lock the caller holds
 * @param record of the contents, not written yet
 * @returns the record to write
 * @throws `NetimageError` `bad-state`; an error of the image or of the database
 */
export function makeReady(directory: string, record: LayerRecord): LayerRecord {
  const contents = join(directory, record.name)
  if (!existsSync(databaseFile(contents))) return record
  try {
    openLayerDatabase(contents).close()
    return record
  } catch (error) {
    if (!(error instanceof OlderFormat)) throw error
  }
  const { image } = record
  const own = findImage(image)
  if (!own) {
    throw new NetimageError(
      'bad-state',
      `an older netimage made it over the image ${image.directory}, which is not there any more`,
      {
        details: { file: image.directory, expected: image.identity },
        hint: 'Put that image back, and try again. The layer is as it was before.',
      },
    )
  }
  try {
    return migrateBeside(directory, record, own)
  } finally {
    own.close()
  }
}

function firstRecord(request: MachineLayerRequest): LayerRecord {
  const now = Date.now()
  const { machine } = request
  return { name: newName(), machine, created: now, lastUsed: now, image: boundImage(request) }
}

function boundImage({ image, index }: MachineLayerRequest): BoundImage {
  const { directory, name, toplevel } = image
  return { directory, name, toplevel, identity: index.identity }
}

/**
 * @param warn called for each path that could not be deleted
 * @throws `NetimageError` `in-use`, `bad-state`
 */
export function resetLayer(layer: StoredLayer, warn: Warn): Promise<void> {
  return withLayer(layer, () => {
    const record = readRecord(layer.directory)
    if (record) beginAnew(layer.directory, record)
    sweep(layer.directory, warn)
  })
}

/** Makes new contents the current ones. This takes no time: the old contents are swept later. */
function beginAnew(directory: string, record: LayerRecord): LayerRecord {
  const anew = { ...record, name: newName(), created: Date.now() }
  withReserveOf(join(directory, record.name), () => writeRecord(directory, anew))
  return anew
}

/**
 * Runs the action. If the disk is full, gives up the reserve of the contents and runs the action
 * again. No machine uses these contents any more, so they do not need their reserve.
 */
function withReserveOf(contents: string, action: () => void): void {
  try {
    action()
  } catch (error) {
    if (!isFull(error)) throw error
    dropReserve(contents)
    action()
  }
}

function isFull(error: unknown): boolean {
  const isKnown = error instanceof NetimageError && error.code === 'disk-full'
  return isKnown || isDiskFull(error) || isDatabaseFull(error)
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
export function measureLayer({ directory }: StoredLayer): LayerSize {
  const record = readRecord(directory)
  return record ? measureContents(join(directory, record.name)) : { bytes: 0, files: 0 }
}

export function measureContents(contents: string): LayerSize {
  const data = dataFolder(contents)
  return { bytes: measureFiles(contents) + measureFiles(data), files: namesIn(data).length }
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

/** Syncs `directory` and those above up to `top`, so that their names outlast a loss of power. */
function syncUp(directory: string, top: string): void {
  for (let at = directory; ; at = dirname(at)) {
    syncDirectory(at)
    if (at === top || at === dirname(at)) return
  }
}
