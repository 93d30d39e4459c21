/**
 * The machines that are served: which may boot, and the image and the root of each.
 *
 * A machine may have boot files of its own, which are used in place of its image's files:
 * `<state>/boot/<its hardware address with dashes, its serial, or its IP address>/`.
 */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { asNetimageError, NetimageError } from '../errors.ts'
import type { BootTrees, Requester } from '../protocols/boot-files.ts'
import type { FileSystem, NodeId } from '../protocols/nfs/file-system.ts'
import type { LayerImage } from '../roots/layer-image.ts'
import { rootNode } from '../roots/numbers.ts'
import { readRecord } from '../roots/record.ts'
import { layerOf } from '../roots/stored-layer.ts'
import { openMachineLayer, resetMachineLayers, type MachineLayer } from '../roots/store.ts'
import type { Identities } from './identity.ts'
import type { MachineOf, NfsExport, NfsMachine } from '../protocols/nfs/machine.ts'
import { remember } from '../remember.ts'
import type { ServedImage } from './served-image.ts'

export interface MachinesSettings {
  images: readonly ServedImage[]
  state: string
  identities: Identities
  /** Whether the layer of a machine is reset at each boot. */
  ephemeral: boolean
  /** Processors by hardware address, as an earlier run of the server knew them. */
  learntProcessors?: ReadonlyMap<string, Processor>
  /** Called if a machine has another processor than before. */
  onProcessor?: (mac: string, processor: Processor) => void
  /** The most bytes that a layer may take on the disk; undefined: no limit. */
  layerSize?: number | undefined
  onError: (error: NetimageError) => void
  /** How many machines have open layers at a time. If another one asks, the idlest is closed. */
  maxOpen?: number
}

export interface Machines {
  /** To be called when DHCP has told the processor of a machine. */
  learnProcessor(mac: string, processor: Processor): void
  imageOf(name: string): ServedImage
  treesOf: (requester: Requester) => Promise<BootTrees | undefined>
  nfsMachineOf: MachineOf
  /** The root of a machine, if it is open. */
  rootOf(name: string): MachineRoot | undefined
  /**
   * Closes the layers of machines that have no connection, so that other commands can change them.
   *
   * @param before closes only if the machine has not called since this time of `performance.now()`
   */
  closeUnused(before: number): void
  /** To be called when a machine begins to boot. */
  boots(name: string): Promise<void>
  close(): Promise<void>
}

/** IANA's processor architecture type, or a Raspberry Pi, which sends the type of a BIOS. */
export type Processor = number | 'raspberry-pi'

/** @returns undefined if the text names no processor */
export function parseProcessor(text: string): Processor | undefined {
  if (text === 'raspberry-pi') return text
  return /^\d{1,5}$/.test(text) ? Number(text) : undefined
}

export interface MachineRoot {
  fileSystem: FileSystem
  /** Whether the node is the init of a boot entry of the image. */
  isInit: (node: NodeId) => boolean
}

interface Machine {
  nfs: NfsMachine
  root: Root
  /** The time of its last call: milliseconds of `performance.now()`. */
  lastCall: number
}

/** Limited, because each open layer has some descriptors. */
const defaultMaxOpen = 512

interface Root {
  image: ServedImage
  layer: MachineLayer
  /** Found when they are first needed. */
  inits?: ReadonlySet<NodeId>
}

/** A root that could not be opened is not tried again for this long. Milliseconds. */
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
  const { images, state, identities, ephemeral, layerSize, onError } = settings
  const { isAllowed } = identities
  const { maxOpen = defaultMaxOpen, learntProcessors, onProcessor } = settings
  const processors = new Map<string, Processor>(learntProcessors)
  const open = new Map<string, Machine>()
  const closing = new Map<string, Promise<void>>()
  /** The last boot of each machine that the server saw: a random name. */
  const bootOf = new Map<string, string>()
  /** Errors of roots that could not be opened, so that each error is reported only once. */
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

  /**
   * If the processor is not known, the path that the machine mounts tells its image. Later it is the
   * image that its layer was bound to then.
   */
  function imageOfRoot(name: string, mounted: string | undefined): ServedImage {
    if (processors.has(name) || images.length === 1) return imageOf(name)
    return imageAt(mounted) ?? lastImageOf(name) ?? imageOf(name)
  }

  function imageAt(path: string | undefined): ServedImage | undefined {
    return images.find(({ rootPath }) => path === rootPath || path?.startsWith(`${rootPath}/`))
  }

  function lastImageOf(name: string): ServedImage | undefined {
    const last = lastIdentityOf(name)
    return images.find(({ index }) => index.identity === last)
  }

  /** @throws `NetimageError` `bad-state` */
  function lastIdentityOf(name: string): string | undefined {
    return readRecord(layerOf(state, name).directory)?.image.identity
  }

  /**
   * Whether the machine still uses the root of another image. Then it has lost this root, until it
   * boots or mounts a root again: what it runs is not in the image that it would get now.
   */
  function isOfOtherImage(name: string, image: ServedImage, mounted: string | undefined): boolean {
    if (mounted !== undefined || bootOf.has(name)) return false
    const last = lastIdentityOf(name)
    return last !== undefined && last !== image.index.identity
  }

  const nfsMachineOf: MachineOf = (caller, mounted) => {
    if (isEnding) return undefined
    const name = identities.nameOf(caller)
    // The machine may be one that is served, and would not ask again after a refusal.
    if (name === undefined) return identities.isSecond(caller) ? 'second' : 'busy'
    const { address, transport } = caller
    if (!isAllowed(name) && !isAllowed(address)) return undefined
    const known = open.get(name)
    if (known) {
      known.lastCall = performance.now()
      if (mounted === undefined || known.root.image === imageOfRoot(name, mounted)) return known.nfs
      forgetNow(name)
      return 'busy'
    }
    // Otherwise each datagram with a forged address would make a layer.
    if (transport === 'udp' && name === address) return undefined
    const failed = failures.get(name)
    const isTooSoon = failed && performance.now() - failed.at < retryMs
    if (closing.has(name) || isTooSoon) return 'busy'
    closeIdlest()
    let root: Root
    try {
      const image = imageOfRoot(name, mounted)
      image.mustBeUnchanged()
      if (isOfOtherImage(name, image, mounted)) return { ...nameOf(name), exports: [] }
      root = { image, layer: openLayerOf(name, image) }
    } catch (error) {
      const known = asNetimageError(error)
      if (failed?.message !== known.message) onError(known)
      remember(failures, name, { message: known.message, at: performance.now() })
      // A running machine then waits, and goes on when the error is fixed. A refusal would end it.
      return 'busy'
    }
    failures.delete(name)
    const { image, layer } = root
    const exported: NfsExport = {
      path: image.rootPath,
      layer: layer.name,
      fileSystem: layer.fileSystem,
    }
    const nfs: NfsMachine = { ...nameOf(name), exports: [exported] }
    open.set(name, { nfs, root, lastCall: performance.now() })
    return nfs
  }

  function openLayerOf(name: string, image: ServedImage): MachineLayer {
    const { index } = image
    const boot = bootOf.get(name)
    return openMachineLayer({ state, machine: name, image, index, boot, most: layerSize })
  }

  function forget(name: string): Promise<void> {
    const machine = open.get(name)
    if (!machine) return closing.get(name) ?? Promise.resolve()
    open.delete(name)
    return close(name, machine.root)
  }

  function close(name: string, { layer }: Root): Promise<void> {
    const closed = layer.close().finally(() => closing.delete(name))
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
    learnProcessor(mac, processor) {
      if (processors.get(mac) !== processor) onProcessor?.(mac, processor)
      remember(processors, mac, processor)
    },
    async treesOf({ address, mac, serial, ip }) {
      const asking = (await identities.nameSoon(address)) ?? address
      // Permission depends on the sender's address, not on the names in the request.
      if (!isAllowed(asking) && !isAllowed(address)) return undefined
      const name = mac ?? (ip === undefined ? asking : (identities.nameAt(ip) ?? ip))
      const own = join(state, 'boot', (serial ?? name).replaceAll(':', '-'))
      const image = imageOf(name)
      image.mustBeUnchanged()
      return { image: image.bootTree, ...(existsSync(own) && { own }) }
    },
    rootOf(name) {
      const root = open.get(name)?.root
      return (
        root && {
          fileSystem: root.layer.fileSystem,
          isInit: (node) => (root.inits ??= findInits(root)).has(node),
        }
      )
    },
    closeUnused(before) {
      for (const [name, { lastCall }] of open) {
        if (lastCall < before && !identities.isConnected(name)) forgetNow(name)
      }
    },
    async boots(name) {
      remember(bootOf, name, randomUUID())
      // Also without `ephemeral`: the layer is bound anew when it is opened.
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

function nameOf(name: string): Pick<NfsMachine, 'name' | 'mac'> {
  return { name, ...(name.includes(':') && { mac: name }) }
}

function findInits({ image, layer }: Root): Set<NodeId> {
  try {
    const found = image.inits.map((init) => findNode(layer.image, init))
    return new Set(found.filter((node) => node !== undefined))
  } catch {
    // The image is damaged. The machine gets an error when it reads init, and the error is reported.
    return new Set()
  }
}

function findNode(image: LayerImage, path: string): NodeId | undefined {
  let node: NodeId | undefined = rootNode
  for (const name of path.split('/').filter(Boolean)) {
    node = node === undefined ? undefined : image.child(node, Buffer.from(name))
  }
  return node
}

/** Waits for the end of all of them, and only then throws the first error, if there is one. */
async function whenAllEnd(promises: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === 'rejected') throw result.reason
  }
}

function fits(platform: string, architecture: number): boolean {
  return Object.entries(platforms).some(
    ([prefix, codes]) => platform.startsWith(prefix) && codes.includes(architecture),
  )
}
