// Roots of machines: a layer over an empty tree, with files that a machine made.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { FileSystem, NewNode, NodeId } from '../../../../src/protocols/nfs/file-system.ts'
import type { Layer } from '../../../../src/roots/layer.ts'
import { openLayer } from '../../../roots/support/open-layer.ts'
import { inventPath } from '../../../support/synthetic.ts'
import { createIndex } from '../../../roots/support/tree-index.ts'

/** Everything that a machine can make. */
export type Made =
  | { file: string | Buffer }
  | { link: string | Buffer }
  | { directory: Record<string, Made> }
  /** The size of a file of zeros. */
  | { hole: number }
  | { special: Special }
type Special = 'fifo' | 'socket' | 'character' | 'block'

export type MadeRoot = Pick<Layer, 'fileSystem' | 'close'>

/** @param most bytes that the machine may take; default: no limit */
export function makeRoot(directory: string, most?: number): MadeRoot {
  const [tree, layer] = [join(directory, 'tree'), join(directory, 'layer')]
  for (const each of [tree, layer]) mkdirSync(each, { recursive: true })
  return openLayer(layer, createIndex('tree', tree), { most })
}

/** Makes the node and the directories above it, or replaces it. */
export function plant(system: FileSystem, path: string, made: Made): NodeId {
  const names = path.split('/').filter(Boolean)
  const last = Buffer.from(names.pop() ?? '')
  let directory = system.root
  for (const name of names) {
    directory =
      system.lookup(directory, Buffer.from(name)) ??
      system.create(directory, Buffer.from(name), { ...owned, kind: 'directory' })
  }
  if ('directory' in made) {
    const node =
      system.lookup(directory, last) ??
      system.create(directory, last, { ...owned, kind: 'directory' })
    for (const [name, child] of Object.entries(made.directory))
      plant(system, `${path}/${name}`, child)
    return node
  }
  if (system.lookup(directory, last) !== undefined) system.remove(directory, last)
  const node = system.create(directory, last, { ...owned, ...newNode(made) })
  if ('file' in made) system.write(node, 0, Buffer.from(made.file))
  if ('hole' in made) system.setAttributes(node, { size: made.hole })
  return node
}

const owned = { mode: 0o755, uid: 0, gid: 0 }

function newNode(made: Exclude<Made, { directory: unknown }>): Pick<NewNode, 'kind' | 'target'> {
  if ('link' in made) return { kind: 'symlink', target: Buffer.from(made.link) }
  return { kind: 'special' in made ? made.special : 'file' }
}

export const kernelPath = inventPath('linux-published')

/** The store paths of a system, by their paths. */
export function systemOf(
  label: string,
  more: Record<string, Made> = {},
): {
  toplevel: string
  files: Record<string, Made>
} {
  const toplevel = inventPath(`nixos-system-${label}`)
  const bootspec = {
    'org.nixos.bootspec.v1': {
      ...{ system: 'x86_64-linux', label, toplevel, init: `${toplevel}/init` },
      ...{ kernel: `${toplevel}/kernel`, initrd: `${toplevel}/initrd`, kernelParams: ['quiet'] },
    },
  }
  const directory: Record<string, Made> = {
    'boot.json': { file: JSON.stringify(bootspec) },
    init: { file: '#!/bin/sh\n' },
    'nixos-version': { file: label },
    system: { file: 'x86_64-linux' },
    kernel: { link: `${kernelPath}/bzImage` },
    initrd: { link: `${kernelPath}/initrd` },
    ...more,
  }
  const kernel: Made = {
    directory: { bzImage: { file: `kernel of ${label}` }, initrd: { file: `initrd of ${label}` } },
  }
  return { toplevel, files: { [toplevel]: { directory }, [kernelPath]: kernel } }
}

export function plantAll(system: FileSystem, files: Record<string, Made>): void {
  for (const [path, made] of Object.entries(files)) plant(system, path, made)
}
