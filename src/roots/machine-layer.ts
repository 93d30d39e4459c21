/** Opens the layer of a machine for the server: see store.ts. Makes the layer at the first boot. */
import { rmdirSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { tryLock } from '../lock.ts'
import { makeDirectory } from '../make-directory.ts'
import type { FileSystem } from '../protocols/nfs/file-system.ts'
import { syncDirectory, syncDirectorySoon } from '../sync-directory.ts'
import { tidy } from '../tidy.ts'
import type { BootFilePath } from './bind-boot-files.ts'
import type { SiteFiles } from './bind-site-files.ts'
import { BoundOtherwise, type Binding } from './bind.ts'
import type { BoundImage, KeptImage } from './bound-image.ts'
import { OlderFormat } from './database-file.ts'
import { isFull } from './failure.ts'
import { findInSteps } from './find-image.ts'
import type { ImageIndex } from './image-index.ts'
import type { LayerImage } from './layer-image.ts'
import { openLayerInSteps, type Layer, type LayerOptions } from './layer.ts'
import { doInPieces, doSome, waitFor, type Steps } from './steps.ts'
import { UnreadyLayer } from './unready-layer.ts'
import { useContents } from './present-format.ts'
import {
  isSameRecord,
  newName,
  noteUse,
  readRecord,
  writeRecord,
  writeRecordSoon,
  type LayerRecord,
} from './record.ts'
import { beginAnewInSteps, layerError } from './store.ts'
import { adoptOlder, inUse, layerOf } from './stored-layer.ts'
import { sweep, sweepInBackground } from './sweep.ts'

export interface MachineLayer {
  /** Changes if the numbers of nodes can mean other nodes: after a reset or a restore. */
  name: string
  fileSystem: FileSystem
  /** The image below, without what the machine changed. */
  image: LayerImage
  close(): Promise<void>
}

export interface MachineLayerRequest extends Pick<
  LayerOptions,
  'most' | 'takenElsewhere' | 'hold'
> {
  state: string
  /** A hardware address, or an IP address. */
  machine: string
  /** The image whose files outside the store paths the machine sees. */
  image: Omit<BoundImage, 'id'>
  /** Further images whose store paths the machine sees. Default: none. */
  keptImages?: readonly KeptImage[] | undefined
  /** The index of all these images. */
  index: ImageIndex
  /**
   * A boot of the machine. The layer is bound anew if it was last bound at another boot: see bind.ts.
   * Default: it is bound anew only if it was bound to other images.
   */
  boot?: string | undefined
  /** Whether the layer is opened only if it was last bound to these images, and then as it is. Default: no. */
  isBound?: boolean
  /** Files that say something of one boot, which the machine loses at its next boot. Default: none. */
  bootFiles?: readonly BootFilePath[] | undefined
  /** Called while the layer is locked and bound for a boot. Default: the machine gets no files. */
  siteFiles?: (() => SiteFiles) | undefined
  /**
   * When everything that the machine wrote is removed, except snapshots: now, or if the layer was last
   * bound at another boot. The old contents are deleted in the background. Default: never.
   */
  reset?: 'now' | 'at-another-boot' | undefined
}

/**
 * As much of an opening is done while everybody waits. Most steps take some microseconds. This is enough for
 * some thousand files.
 */
const atFirst = { steps: 600, ms: 8 }

/** A layer with very many files or names. It is opened in pieces. */
export class UnfinishedOpening extends UnreadyLayer {
  readonly #steps: Steps<MachineLayer>
  /** The layer after `makeReady`, whose caller closes it. Its `close` disposes of `held`. */
  opened: MachineLayer | undefined

  constructor(steps: Steps<MachineLayer>) {
    super('the opening goes on')
    this.#steps = steps
  }

  async makeReady(end: AbortSignal, stop = end): Promise<void> {
    try {
      const opened = await doInPieces(this.#steps, AbortSignal.any([end, stop]))
      this.opened = { ...opened, close: () => opened.close().finally(() => this.held.dispose()) }
    } catch (error) {
      this.#steps[Symbol.dispose]()
      try {
        if (!(error instanceof UnreadyLayer)) throw error
        // Then the layer is to be opened anew.
        await error.makeReady(end, stop)
      } finally {
        this.held.dispose()
      }
    }
  }

  override giveUp(): void {
    this.#steps[Symbol.dispose]()
    super.giveUp()
  }
}

/**
 * @returns `UnreadyLayer`: the layer stays locked, and the index must stay open, until it is made ready or
 *   given up. Then the layer can be opened, or it is open already: see `UnfinishedOpening`.
 * @throws `NetimageError` `bad-state`, `in-use`; `BoundOtherwise` only for `isBound`
 */
export function openMachineLayer(request: MachineLayerRequest): MachineLayer | UnreadyLayer {
  const steps = openMachineLayerInSteps(request)
  try {
    const opened = doSome(steps, atFirst)
    return opened ? opened.value : new UnfinishedOpening(steps)
  } catch (error) {
    // The steps throw it, so that it undoes their transactions and closes what they have opened.
    if (error instanceof UnreadyLayer) return error
    throw error
  }
}

/** As `openMachineLayer`, but throws `UnreadyLayer`. */
export function* openMachineLayerInSteps(request: MachineLayerRequest): Steps<MachineLayer> {
  const { state, machine, index } = request
  const stored = layerOf(state, machine)
  const { directory } = stored
  try {
    makeDirectory(dirname(directory))
    // Without waiting: this blocks the server.
    const lock = tryLock(stored.lock, 'exclusive')
    if (!lock) throw inUse(stored)
    using held = new DisposableStack()
    held.defer(() => lock.release())
    try {
      adoptOlder(state, stored, index.id)
      makeDirectory(directory)
      const before = readRecord(directory)
      const found = before ?? firstRecord(request)
      makeDirectory(join(directory, found.name))
      if (!before) yield* keepRecord(directory, found, state)
      const binding: Binding = {
        ...{ boot: request.boot, image: boundImage(request), imageBefore: before?.image },
        keptImages: request.keptImages ?? [],
        ...{ bootFiles: request.bootFiles, siteFiles: request.siteFiles, isBound: request.isBound },
        indexOf: findInSteps,
      }
      const reset = before ? request.reset : undefined
      const { record, layer } = yield* openContents(
        { ...request, reset },
        directory,
        found,
        binding,
      )
      const { kept } = layer
      const { image, keptImages } = binding
      const current = {
        ...{ ...record, image, keptImages: [...keptImages], kept, lastUsed: Date.now() },
        ...(before && { firstImage: record.firstImage ?? before.image }),
      }
      // After the binding: until then, the record names the image that the layer was bound to.
      if (before && !isSameRecord(before, current)) yield* noteUse(directory, current)
      const sweeping = sweepInBackground(directory)
      const locked = held.move()
      return {
        name: record.name,
        fileSystem: layer.fileSystem,
        image: layer.image,
        async close() {
          try {
            await sweeping.stop()
            await layer.close()
            await doInPieces(noteUse(directory, { ...current, lastUsed: Date.now() }))
          } finally {
            locked.dispose()
          }
        },
      }
    } catch (error) {
      if (error instanceof UnreadyLayer) error.held.use(held.move())
      throw error
    }
  } catch (error) {
    if (error instanceof UnreadyLayer || error instanceof BoundOtherwise) throw error
    throw layerError(`could not open the layer ${directory}`, directory, error)
  }
}

interface UsedContents {
  record: LayerRecord
  layer: Layer
}

/** Opens the contents of a layer. If the request wants a reset that fails, nothing is opened. */
function* openContents(
  { index, most, takenElsewhere, hold, reset }: MachineLayerRequest,
  directory: string,
  record: LayerRecord,
  binding: Binding,
): Steps<UsedContents> {
  const openBound = (contents: string, how: Binding) =>
    openLayerInSteps(contents, index, { most, takenElsewhere, hold, binding: how })

  function* open(from: LayerRecord): Steps<UsedContents> {
    const used = yield* useContents(directory, from, index, (contents) =>
      openBound(contents, binding),
    )
    return { record: used.record, layer: used.result }
  }

  function* openNew(): Steps<UsedContents> {
    const anew = yield* beginAnewInSteps(directory, record)
    makeDirectory(join(directory, anew.name))
    try {
      return yield* open(anew)
    } catch (error) {
      if (!isFull(error)) throw error
      // The old contents would be swept in the background only once the layer is open.
      sweep(directory, () => {})
      return yield* open(anew)
    }
  }

  if (reset === undefined) return yield* open(record)
  if (reset === 'now') return yield* openNew()
  try {
    const same = { ...binding, onlySame: true }
    return { record, layer: yield* openBound(join(directory, record.name), same) }
  } catch (error) {
    if (error instanceof BoundOtherwise || error instanceof OlderFormat) return yield* openNew()
    throw error
  }
}

/** Writes the record of a new layer. On failure, there are no contents. */
function* keepRecord(directory: string, record: LayerRecord, state: string): Steps {
  // Before the record: if there is a record, these directories are known to be on the disk.
  const above = directoriesUp(dirname(directory), state)
  try {
    yield* waitFor(
      () => {
        for (const each of above) syncDirectory(each)
        writeRecord(directory, record)
      },
      async () => {
        await Promise.all(above.map(syncDirectorySoon))
        await writeRecordSoon(directory, record)
      },
    )
  } catch (error) {
    // The next try makes another directory.
    tidy(join(directory, record.name), () => {}, rmdirSync)
    throw error
  }
}

function firstRecord(request: MachineLayerRequest): LayerRecord {
  const now = Date.now()
  const { machine } = request
  return { name: newName(), machine, created: now, lastUsed: now, image: boundImage(request) }
}

function boundImage({ image, index }: MachineLayerRequest): BoundImage {
  const { directory, name, toplevel } = image
  return { directory, name, toplevel, id: index.id }
}

/** The directory and those above up to `top`. */
function directoriesUp(directory: string, top: string): string[] {
  const all = [directory]
  for (let at = directory; at !== top && at !== dirname(at);) all.push((at = dirname(at)))
  return all
}
