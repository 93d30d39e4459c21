// Layers of a state directory over small images.

import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { errnoOf } from '../../../src/errors.ts'
import type { FileSystem, NodeId } from '../../../src/protocols/nfs/file-system.ts'
import type { MachineLayer, MachineLayerRequest } from '../../../src/roots/machine-layer.ts'
import { readImageIndex } from './tree-index.ts'
import { openMachineLayerNow } from './open-layer.ts'

/** Systems that images in tests are made of. */
export const firstSystem = `/nix/store/${'0'.repeat(32)}-system`
export const otherSystem = `/nix/store/${'1'.repeat(32)}-system`

function manifestOf(toplevel: string): string {
  return JSON.stringify({
    version: 1,
    system: { toplevel, label: 'test', platform: 'x86_64-linux', entries: [], fileSystems: [] },
    options: {
      ...{ imageBaseName: 'image', rootDirectoryName: 'pi', storePaths: [] },
      ...{ nfsRoot: '127.0.0.1:/pi,v3', populateFirmwareCommands: '', populateRootCommands: '' },
    },
    closure: [],
    root: { format: 'directory', owner: { uid: 0, gid: 0 }, files: [] },
    boot: { files: [] },
  })
}

/** Of an image that brings no store paths. */
export function writeManifest(directory: string, toplevel: string): void {
  mkdirSync(join(directory, 'nix-support'), { recursive: true })
  writeFileSync(join(directory, 'nix-support/net-image.json'), manifestOf(toplevel))
}

/** The parts of an image that layers use. */
export function makeImage(directory: string, toplevel = firstSystem): string {
  const root = join(directory, 'net-image/pi')
  mkdirSync(join(root, 'etc/ssh'), { recursive: true })
  writeManifest(directory, toplevel)
  writeFileSync(join(root, 'etc/hostname'), 'image\n', { mode: 0o444 })
  symlinkSync('hostname', join(root, 'etc/name'))
  return directory
}

export function openOver(
  state: string,
  machine: string,
  image: string,
  { reset, boot }: Pick<MachineLayerRequest, 'reset' | 'boot'> = {},
): MachineLayer {
  const index = readImageIndex(image, join(image, 'net-image/pi'))
  const known = { directory: image, name: 'pi', toplevel: firstSystem }
  try {
    const layer = openMachineLayerNow({ state, machine, image: known, index, reset, boot })
    const close = () => layer.close().finally(() => index.close())
    return { ...layer, close }
  } catch (error) {
    index.close()
    throw error
  }
}

export function find(system: FileSystem, path: string): NodeId | undefined {
  let node: NodeId | undefined = system.root
  for (const name of path.split('/').filter(Boolean)) {
    node = node === undefined ? undefined : system.lookup(node, Buffer.from(name))
  }
  return node
}

/** Makes the file, or overwrites its first bytes. */
export function put(system: FileSystem, path: string, text: string): NodeId {
  const [, parent = '', name = ''] = /^(.*?)([^/]+)$/.exec(path) ?? []
  const directory = find(system, parent) ?? system.root
  const made = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const
  const file = find(system, path) ?? system.create(directory, Buffer.from(name), made)
  system.write(file, 0, Buffer.from(text))
  return file
}

/** Asks again until the action succeeds. @returns how many turns others had meanwhile */
export async function untilDone(action: () => void): Promise<number> {
  for (let turns = 0; ; turns++) {
    try {
      action()
      return turns
    } catch (error) {
      assert.equal(errnoOf(error), 'EAGAIN')
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
}

export function read(system: FileSystem, path: string): string | undefined {
  const file = find(system, path)
  if (file === undefined) return undefined
  const bytes = Buffer.alloc(system.attributes(file).size)
  return bytes.toString('utf8', 0, system.read(file, 0, bytes))
}

/** What the machine sees after it has written, and after its layer was closed. */
export async function within<T>(
  [state, machine, image]: readonly [string, string, string],
  action: (system: FileSystem, layer: MachineLayer) => T,
): Promise<Awaited<T>> {
  const layer = openOver(state, machine, image)
  try {
    return await action(layer.fileSystem, layer)
  } finally {
    await layer.close()
  }
}

/** Of an image that `makeImage` made. */
export function identityOf(toplevel: string): string {
  return hash('sha256', manifestOf(toplevel)).slice(0, 16)
}
