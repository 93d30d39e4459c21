/**
 * The machines that are served: who may boot, which image each has, and its root.
 *
 * A machine may have boot files of its own, which stand before those of its image:
 * `<state>/boot/<its hardware address with dashes, its serial, or its IP address>/`.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { messageOf, NetimageError } from '../errors.ts'
import type { BootTrees, Requester } from '../protocols/boot-files.ts'
import type { FileSystem } from '../protocols/nfs/file-system.ts'
import { openMachineLayer, resetMachineLayers, type MachineLayer } from '../roots/store.ts'
import type { Identities } from './identity.ts'
import type { MachineOf, NfsExport, NfsMachine } from '../protocols/nfs/machine.ts'
import { remember } from '../remember.ts'
import type { ServedImage } from './served-image.ts'

export interface MachinesSettings {
  images: readonly ServedImage[]
  state: string
  identities: Identities
  /** Whether a machine begins each boot without what it wrote before. */
  ephemeral: boolean
  onError: (error: NetimageError) => void
  /** Machines whose layers are open at once; the others open theirs again when they ask. */
  maxOpen?: number
}

export interface Machines {
  /** Its loader said so. */
  isOf(mac: string, processor: Processor): void
  imageOf(name: string): ServedImage
  treesOf: (requester: Requester) => Promise<BootTrees | undefined>
  nfsMachineOf: MachineOf
  /** The file systems that a machine can have mounted, and the images below. */
  rootsOf(name: string): readonly MachineRoot[]
  /**
   * Closes the layers of machines that are off, so that other commands may change them: those that
   * have no connection.
   *
   * @param before only if they did not call since then: milliseconds, as `performance.now()` counts
   */
  closeUnused(before: number): void
  /** A machine starts anew. */
  boots(name: string): Promise<void>
  close(): Promise<void>
}

/** IANA's processor architecture type, or what calls itself a BIOS and is none. */
export type Processor = number | 'raspberry-pi'

export interface MachineRoot {
  image: ServedImage
  fileSystem: FileSystem
}

interface Machine {
  nfs: NfsMachine
  roots: Root[]
  /** When it last called: milliseconds, as `performance.now()` counts. */
  lastCall: number
}

/** Each has some descriptors. */
const defaultMaxOpen = 512

interface Root {
  image: ServedImage
  layer: MachineLayer
}

/** Milliseconds. */
const retryMs = 1000

const [arm64, arm32] = [11, 10]

/** Nix's platforms by the architectures that firmware names. */
const platforms: Record<string, readonly number[]> = {
  'i686-': [0],
  'x86_64-': [0, 6, 7, 9, 15, 16],
  'aarch64-': [11, 19, 22],
  'armv7l-': [10, 18, 21],
  'riscv64-': [27, 28],
}

export function createMachines(settings: MachinesSettings): Machines {
  const { images, state, identities, ephemeral, onError } = settings
  const { isAllowed } = identities
  const { maxOpen = defaultMaxOpen } = settings
  const processors = new Map<string, Processor>()
  const open = new Map<string, Machine>()
  const closing = new Map<string, Promise<void>>()
  /** Of roots that could not be opened: told once, and not tried again at each call. */
  const failures = new Map<string, { message: string; at: number }>()
  let isEnding = false
  const [first] = images
  if (!first) throw new NetimageError('bad-usage', 'there is no image to serve')
  const defaultImage = first

  function imageOf(name: string): ServedImage {
    const processor = processors.get(name)
    if (processor === undefined) return defaultImage
    if (processor !== 'raspberry-pi') return imageFor(processor) ?? defaultImage
    const ofPi = images.find(({ loaders }) => loaders.raspberryPi)
    return ofPi ?? imageFor(arm64) ?? imageFor(arm32) ?? defaultImage
  }

  function imageFor(architecture: number): ServedImage | undefined {
    return images.find(({ platform }) => fits(platform, architecture))
  }

  /** Of a machine whose processor is not known, nobody knows which of them it will mount. */
  function imagesOf(name: string): readonly ServedImage[] {
    return processors.has(name) ? [imageOf(name)] : images
  }

  const nfsMachineOf: MachineOf = (caller) => {
    if (isEnding) return undefined
    const name = identities.nameOf(caller)
    // A refusal would be final, for a machine that may well be served.
    if (name === undefined) return 'busy'
    const { address, transport } = caller
    if (!isAllowed(name) && !isAllowed(address)) return undefined
    const known = open.get(name)
    if (known) {
      known.lastCall = performance.now()
      return known.nfs
    }
    // Whoever sends with made-up addresses would have a layer made for each.
    if (transport === 'udp' && name === address) return undefined
    const failed = failures.get(name)
    const isTooSoon = failed && performance.now() - failed.at < retryMs
    if (closing.has(name) || isTooSoon) return 'busy'
    closeIdlest()
    const roots: Root[] = []
    try {
      for (const image of imagesOf(name)) {
        image.mustBeUnchanged()
        const layer = openMachineLayer({ state, machine: name, image, index: image.index })
        roots.push({ image, layer })
      }
    } catch (error) {
      const known = asNetimageError(error)
      if (failed?.message !== known.message) onError(known)
      remember(failures, name, { message: known.message, at: performance.now() })
      close(name, roots).catch((failure: unknown) => onError(asNetimageError(failure)))
      // Who runs already waits then, and goes on once it is mended; a refusal would be the end.
      return 'busy'
    }
    failures.delete(name)
    const exports = roots.map(({ image, layer }): NfsExport => ({
      path: image.rootPath,
      layer: layer.name,
      image: image.index.identity,
      fileSystem: layer.fileSystem,
    }))
    const nfs: NfsMachine = { name, ...(name.includes(':') && { mac: name }), exports }
    open.set(name, { nfs, roots, lastCall: performance.now() })
    return nfs
  }

  function forget(name: string): Promise<void> {
    const machine = open.get(name)
    if (!machine) return closing.get(name) ?? Promise.resolve()
    open.delete(name)
    return close(name, machine.roots)
  }

  function close(name: string, roots: readonly Root[]): Promise<void> {
    const closed = whenAllEnd(roots.map(({ layer }) => layer.close())).finally(() =>
      closing.delete(name),
    )
    closing.set(name, closed)
    return closed
  }

  function closeIdlest(): void {
    if (open.size < maxOpen) return
    const [idlest] = [...open].reduce((one, other) =>
      other[1].lastCall < one[1].lastCall ? other : one,
    )
    forgetNow(idlest)
  }

  function forgetNow(name: string): void {
    forget(name).catch((error: unknown) => onError(asNetimageError(error)))
  }

  return {
    imageOf,
    nfsMachineOf,
    isOf: (mac, processor) => remember(processors, mac, processor),
    async treesOf({ address, mac, serial, ip }) {
      const asking = (await identities.nameSoon(address)) ?? address
      // What it says of itself gets it files, but no permission.
      if (!isAllowed(asking) && !isAllowed(address)) return undefined
      const name = mac ?? (ip === undefined ? asking : (identities.nameAt(ip) ?? ip))
      const own = join(state, 'boot', (serial ?? name).replaceAll(':', '-'))
      const image = imageOf(name)
      image.mustBeUnchanged()
      return { image: image.bootTree, ...(existsSync(own) && { own }) }
    },
    rootsOf: (name) =>
      (open.get(name)?.roots ?? []).map(({ image, layer: { fileSystem } }) => ({
        image,
        fileSystem,
      })),
    closeUnused(before) {
      for (const [name, { lastCall }] of open) {
        if (lastCall < before && !identities.isConnected(name)) forgetNow(name)
      }
    },
    async boots(name) {
      identities.boots(name)
      // Also without `ephemeral`: the machine may have another image by now.
      await forget(name)
      if (ephemeral) await resetMachineLayers(state, name)
    },
    async close() {
      isEnding = true
      const names = [...open.keys(), ...closing.keys()]
      await whenAllEnd(names.map((name) => forget(name)))
    },
  }
}

/** Waits for the end of all of them, and only then throws the first error, if there is one. */
async function whenAllEnd(promises: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === 'rejected') throw result.reason
  }
}

function asNetimageError(error: unknown): NetimageError {
  if (error instanceof NetimageError) return error
  return new NetimageError('internal', messageOf(error), { cause: error })
}

function fits(platform: string, architecture: number): boolean {
  return Object.entries(platforms).some(
    ([prefix, codes]) => platform.startsWith(prefix) && codes.includes(architecture),
  )
}
