/**
 * Where the layers of a state directory are. A machine has one layer, `layers/<machine>/root`.
 * Earlier versions made one for each build of an image, `layers/<machine>/<first digits of the
 * image's id>`. The first opening makes one of these the machine's layer; the others stay until
 * a person removes them.
 */
import { renameSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { NetimageError } from '../errors.ts'
import { tryLock } from '../lock.ts'
import { syncDirectory } from '../sync-directory.ts'
import { namesIn } from './names-in.ts'
import { readRecord } from './record.ts'

/** A layer on the disk, in use or not. */
export interface StoredLayer {
  machine: string
  /** Of a layer of an earlier version: the first digits of its image's id. */
  older?: string
  directory: string
  lock: string
}

const current = 'root'

export function layerOf(state: string, machine: string): StoredLayer {
  return storedLayer(state, folderOf(machine), current)
}

/** In the order of the machines' addresses. A machine's layers of earlier versions come last. */
export function listLayers(state: string): StoredLayer[] {
  return namesIn(join(state, 'layers')).flatMap((folder) => layersIn(state, folder))
}

/** The layer of the machine and its layers of earlier versions. */
export function layersOf(state: string, machine: string): StoredLayer[] {
  return layersIn(state, folderOf(machine))
}

/** The layers that machines use, or would use: without those that another layer has replaced. */
export function withoutReplaced(layers: readonly StoredLayer[]): StoredLayer[] {
  const replaced = new Set(layers.filter(({ older }) => !older).map(({ machine }) => machine))
  return layers.filter(({ older, machine }) => !older || !replaced.has(machine))
}

function layersIn(state: string, folder: string): StoredLayer[] {
  const names = namesIn(join(state, 'layers', folder))
  return [
    ...names.filter((name) => name === current),
    ...names.filter((name) => /^[0-9a-f]{16}$/.test(name)),
  ].map((name) => storedLayer(state, folder, name))
}

function storedLayer(state: string, folder: string, name: string): StoredLayer {
  const directory = join(state, 'layers', folder, name)
  const machine = machineOf(folder)
  return { machine, ...(name !== current && { older: name }), directory, lock: `${directory}.lock` }
}

/**
 * Makes a layer of an earlier version the layer of the machine, if the machine has none: the one over
 * this image, or the one that was used last. This is one rename.
 *
 * @param layer of the machine, whose lock the caller holds
 * @param id of the image that the machine is to have
 * @throws `NetimageError` `in-use`, `bad-state`
 */
export function adoptOlder(state: string, layer: StoredLayer, id: string): void {
  const layers = layersOf(state, layer.machine)
  if (layers.some(({ older }) => !older)) return
  const chosen = layers.find(({ older }) => older === id.slice(0, 16)) ?? usedLast(layers)
  if (!chosen) return
  // A record that cannot be read is reported before anything is moved.
  readRecord(chosen.directory)
  const lock = tryLock(chosen.lock, 'exclusive')
  if (!lock) throw inUse(chosen)
  try {
    renameSync(chosen.directory, layer.directory)
    syncDirectory(dirname(layer.directory))
  } finally {
    lock.release()
  }
}

/** A layer that cannot be read is chosen only if there is no other. */
function usedLast(layers: readonly StoredLayer[]): StoredLayer | undefined {
  const lastUsed = ({ directory }: StoredLayer) => {
    try {
      return readRecord(directory)?.lastUsed ?? -1
    } catch (error) {
      if (error instanceof NetimageError) return -2
      throw error
    }
  }
  return layers.toSorted((one, other) => lastUsed(other) - lastUsed(one))[0]
}

export function inUse({ machine, directory }: StoredLayer): NetimageError {
  return new NetimageError('in-use', `the layer of ${machine} is in use`, {
    details: { file: directory },
    hint: 'The machine runs, or another command uses its layer. Power the machine off, wait a minute until the server has noticed, and try again.',
  })
}

/** The name of the folder of a machine in directories that have one for each machine. */
export function folderOf(machine: string): string {
  return machine.replaceAll(':', '-')
}

/** The reverse of `folderOf`: an address has either dashes or colons. */
export function machineOf(folder: string): string {
  return folder.replaceAll('-', ':')
}
