/**
 * The layers of a state directory: `layers/<machine>/<image>`, one for each machine and image.
 *
 *     layer.sqlite, data/   see layer.ts
 *     name                  a random one, which handles are made with: a layer that was reset is another
 *     lock                  held while it is open
 */
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../../errors.ts'
import { makeDirectory } from '../../make-directory.ts'
import { acquireLock } from '../../pool/lock.ts'
import { removeTree } from '../../remove-tree.ts'
import type { FileSystem } from './file-system.ts'
import type { ImageIndex } from './image-index.ts'
import { openLayer } from './layer.ts'

export interface MachineLayer {
  /** The same as long as its nodes are the same. */
  name: string
  fileSystem: FileSystem
  close(): Promise<void>
}

export interface MachineLayerRequest {
  state: string
  /** A hardware address, or an IP address. */
  machine: string
  index: ImageIndex
}

const nameFile = 'name'

/** @throws `NetimageError` `bad-state`, `in-use` */
export function openMachineLayer({ state, machine, index }: MachineLayerRequest): MachineLayer {
  const directory = join(machineDirectory(state, machine), index.identity.slice(0, 16))
  try {
    makeDirectory(directory)
    const lock = acquireLock(join(directory, 'lock'), 'exclusive', 0)
    if (!lock) throw inUse(machine)
    try {
      const name = readName(directory)
      const layer = openLayer(directory, index)
      return {
        name,
        fileSystem: layer.fileSystem,
        async close() {
          await layer.close()
          lock.release()
        },
      }
    } catch (error) {
      lock.release()
      throw error
    }
  } catch (error) {
    throw fileSystemError(`could not open the layer ${directory}`, error)
  }
}

/** All that the machine has written is gone. @throws `NetimageError` `in-use` */
export function resetMachineLayers(state: string, machine: string): void {
  const directory = machineDirectory(state, machine)
  let images: string[]
  try {
    images = readdirSync(directory)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return
    throw fileSystemError(`could not read ${directory}`, error)
  }
  for (const image of images) {
    const layer = join(directory, image)
    const lock = acquireLock(join(layer, 'lock'), 'exclusive', 0)
    if (!lock) throw inUse(machine)
    // Gone in one step, whatever happens while it is removed.
    const grave = join(state, 'layers', `.removed-${randomBytes(6).toString('hex')}`)
    renameSync(layer, grave)
    lock.release()
    removeTree(grave)
  }
}

function machineDirectory(state: string, machine: string): string {
  return join(state, 'layers', machine.replaceAll(':', '-'))
}

function readName(directory: string): string {
  const file = join(directory, nameFile)
  if (!existsSync(file)) {
    writeFileSync(`${file}.new`, randomBytes(16).toString('hex'), { flush: true })
    renameSync(`${file}.new`, file)
  }
  return readFileSync(file, 'utf8')
}

function inUse(machine: string): NetimageError {
  return new NetimageError('in-use', `the layer of ${machine} is in use by a server that runs`, {
    hint: 'Stop that server, or give this one another --state.',
  })
}
