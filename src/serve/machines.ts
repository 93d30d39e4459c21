/**
 * The machines that are served: which may boot, and the boot files and the root of each.
 *
 * A machine may have boot files of its own, which are used in place of the files of its system:
 * `<state>/boot/<its hardware address with dashes, its serial, or its IP address>/`.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { asNetimageError, type NetimageError } from '../errors.ts'
import type { BootTrees, Requester } from '../protocols/boot-files.ts'
import { FileSystemError, type FileSystem, type NodeId } from '../protocols/nfs/file-system.ts'
import type { MachineOf, NfsExport, NfsMachine } from '../protocols/nfs/machine.ts'
import type { Caller } from '../protocols/rpc/program.ts'
import { holdWork } from '../protocols/turns.ts'
import { remember } from '../remember.ts'
import type { SiteFiles } from '../roots/bind-site-files.ts'
import { findNode } from '../roots/find-node.ts'
import type { ImageIndex } from '../roots/image-index.ts'
import { folderOf } from '../roots/stored-layer.ts'
import { UnfinishedOpening, type MachineLayer } from '../roots/machine-layer.ts'
import { UnreadyLayer } from '../roots/unready-layer.ts'
import { publishDirectory, requestName } from '../site/publish/request.ts'
import { readyName, restartDirectory } from '../site/rollout/readiness-files.ts'
import { createBootLayers, type Boots } from './boot-layers.ts'
import { failedNote, goodNote, noteAt } from './boot-notes.ts'
import { nothingToBoot, type Gate } from './gate.ts'
import { createLayerWork } from './layer-work.ts'
import type { OpenSystem } from './open-systems.ts'
import { notKnown, type Identities } from './identity.ts'
import type { PrepareLayer } from './prepare-layer.ts'
import { macOf } from './machine-name.ts'

export interface MachinesSettings {
  gate: Gate
  state: string
  identities: Identities
  /** Whether the layer of a machine is reset at each boot. Then it is not prepared. */
  ephemeral: boolean
  /** Prepares the layer of a machine for its attempt, before it is opened. */
  prepareLayer: PrepareLayer
  /** The files of the site that a machine gets at its start. */
  siteFilesOf: (name: string) => SiteFiles
  /** The most bytes that a layer may take on the disk; undefined: no limit. */
  layerSize?: number | undefined
  /** How many bytes the server has taken for the machine elsewhere, which count for `layerSize`. */
  takenElsewhere?: (name: string) => number
  /** Called when the root of a machine has been opened. */
  onOpen: (name: string) => void
  /**
   * Called when a machine begins to wait for its layer, because this server prepares or closes it, and
   * when the machine need not wait any more.
   */
  onWait: (name: string, kind: 'waits' | 'waited') => void
  /** The machine that has the serial number, as the file of the site says. */
  ownerOf?: (serial: string) => string | undefined
  /** Called when a Raspberry Pi tells its serial number by the name of a file. */
  onSerial?: (mac: string, serial: string) => void
  onError: (error: NetimageError) => void
  /** See `createStrangerLayers`. */
  mayHaveLayer: (name: string) => boolean
  /** How many machines have open layers at a time. If another one asks, the idlest is closed. */
  maxOpen?: number
}

export interface Machines {
  treesOf: (requester: Requester) => Promise<BootTrees | undefined>
  nfsMachineOf: MachineOf
  /** The systems that machines boot or run, and those below roots that are open or being closed. */
  systems(): OpenSystem[]
  /** The open root of a machine. */
  rootOf(name: string): MachineRoot | undefined
  /**
   * Closes the layers of machines that have no connection, so that other commands can change them.
   *
   * @param before closes only if the machine has not called since this time of `performance.now()`
   */
  closeUnused(before: number): void
  /** To be called when a machine begins an attempt: it gets its root anew. */
  begins(name: string): void
  /** Resolves when the layer of the machine is not being closed or prepared any more. */
  whenClosed(name: string): Promise<void>
  close(): Promise<void>
}

export interface MachineRoot {
  fileSystem: FileSystem
  system: OpenSystem
  /** Whether the node is the init of a boot entry of the system. @throws `FileSystemError` */
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
  system: OpenSystem
  layer: MachineLayer
  index: ImageIndex
  /** Found when they are first needed. */
  inits?: ReadonlySet<NodeId>
}

/** The first file that the firmware of a Raspberry Pi asks for below its serial number. */
const isPiStart = /\/start4?\.elf$/

/** A root that could not be opened is not tried again for this long. Milliseconds. */
const retryMs = 1000

export function createMachines(settings: MachinesSettings): Machines {
  const { gate, state, identities, ephemeral, layerSize, onOpen, onError } = settings
  const { isAllowed } = identities
  const { maxOpen = defaultMaxOpen, takenElsewhere = () => 0, ownerOf, onSerial } = settings
  const open = new Map<string, Machine>()
  const work = createLayerWork(settings.onWait)
  /** The open indexes, and the system of each. */
  const indexes = new Map<ImageIndex, OpenSystem>()
  const ending = new AbortController()
  /** Errors of roots that could not be opened, so that each error is reported only once. */
  const failures = new Map<string, { message: string; at: number }>()
  /** The machines that have begun an attempt and whose layers are to be reset when they are opened. */
  const unreset = new Set<string>()
  const layers = createBootLayers(onError)
  let isEnding = false

  const nfsMachineOf: MachineOf = (caller, mounts) => {
    if (isEnding) return undefined
    const name = identities.nameOf(caller)
    // The machine may be one that is served, and would not ask again after a refusal.
    if (name === undefined) return identities.isSecond(caller) ? 'second' : 'busy'
    const { address, transport } = caller
    if (!isAllowed(name) && !isAllowed(address)) return undefined
    // Otherwise each datagram with a forged address would make a layer.
    const mayOpen = transport !== 'udp' || name !== address
    const isTooSoon = hasJustFailed(name)
    // A machine that gets its boot files elsewhere begins its boot with a mount.
    if (mounts !== undefined && mayOpen && !isTooSoon) enter(name, caller, mounts)
    const known = open.get(name)
    if (known) {
      known.lastCall = performance.now()
      return known.nfs
    }
    if (!mayOpen) return undefined
    if (work.of(name)) return work.wait(name)
    if (isTooSoon) return 'busy'
    const booted = gate.now(name)
    if (booted === 'busy') return 'busy'
    // It runs from a root that this server does not know: nobody can say of which generation.
    if (booted?.attempt === undefined) return { name, ...macOf(name), exports: [] }
    if (!isPrepared(name, booted.attempt)) return work.wait(name)
    const { attempt, system, unrecorded } = booted
    return openRoot(name, system, { unrecorded, recorded: String(attempt) })
  }

  function hasJustFailed(name: string): boolean {
    const failed = failures.get(name)
    return failed !== undefined && performance.now() - failed.at < retryMs
  }

  /** If the layer of a machine is not prepared for the attempt, begins to prepare it. */
  function isPrepared(name: string, attempt: number): boolean {
    if (ephemeral) return true
    try {
      // It goes on if the machine starts again meanwhile: otherwise it might never end.
      const prepared = settings.prepareLayer(name, attempt, ending.signal)
      if (!prepared) return true
      const ended = prepared.catch((error: unknown) => {
        if (!isEnding) fail(name, error)
      })
      void work.begin(name, ended)
    } catch (error) {
      fail(name, error)
    }
    return false
  }

  function enter(name: string, caller: Caller, path: string): void {
    const { address, transport } = caller
    const mount = { kind: 'nfs', step: 'mount', path, address, ...macOf(name) } as const
    gate
      .enter(name, { ...mount, ...(transport === 'udp' && { transport }) }, caller)
      .catch((error: unknown) => fail(name, error))
  }

  function openRoot(name: string, system: OpenSystem, boots: Boots): ReturnType<MachineOf> {
    const root = openNow(name, system, boots)
    // A running machine then waits, and goes on when the error is fixed. A refusal would end it.
    return root ? serveRoot(name, root) : work.wait(name)
  }

  /** @returns undefined if the root cannot be opened yet */
  function openNow(name: string, system: OpenSystem, boots: Boots): Root | undefined {
    try {
      if (!settings.mayHaveLayer(name)) return undefined
      closeIdlest()
      const index = system.openIndex()
      if (index instanceof Promise) {
        const walked = index.catch((error: unknown) => fail(name, error))
        void work.begin(name, walked)
        return undefined
      }
      indexes.set(index, system)
      const layer = openLayer(name, system, index, boots)
      if (!(layer instanceof UnreadyLayer)) return { system, layer, index }
      layer.held.defer(() => closeIndex(index))
      // The layer is reset, and only its binding or opening goes on. Another reset would begin it again.
      unreset.delete(name)
      prepare(name, boots, layer, { system, index })
    } catch (error) {
      fail(name, error)
    }
    return undefined
  }

  /** @returns what must be done before, if the layer is not ready */
  function openLayer(
    name: string,
    system: OpenSystem,
    index: ImageIndex,
    boots: Boots,
  ): MachineLayer | UnreadyLayer {
    try {
      return layers.open(boots, {
        ...{ state, machine: name, most: layerSize },
        takenElsewhere: () => takenElsewhere(name),
        hold: (until) => holdWork(name, until),
        ...{ image: system.image, keptImages: system.keptImages, index },
        // A request of an earlier boot must not change what a person has chosen since.
        bootFiles: [
          noteAt(goodNote),
          noteAt(failedNote),
          [...publishDirectory, requestName],
          [...restartDirectory, readyName],
        ],
        siteFiles: () => settings.siteFilesOf(name),
        // The server may have ended after the attempt began, and before the reset.
        ...(ephemeral && { reset: unreset.has(name) ? 'now' : 'at-another-boot' }),
      })
    } catch (error) {
      closeIndex(index)
      throw error
    }
  }

  function serveRoot(name: string, root: Root): NfsMachine {
    const isBound = layers.isBound(name)
    failures.delete(name)
    unreset.delete(name)
    const { name: layer, fileSystem } = root.layer
    const exported: NfsExport = { path: root.system.rootPath, layer, fileSystem }
    const nfs: NfsMachine = { name, ...macOf(name), exports: [exported] }
    open.set(name, { nfs, root, lastCall: performance.now() })
    // Otherwise the notes and the request in it may be of an earlier boot.
    if (isBound) onOpen(name)
    return nfs
  }

  function prepare(
    name: string,
    boots: Boots,
    unready: UnreadyLayer,
    root: Omit<Root, 'layer'>,
  ): void {
    const stop = new AbortController()
    const signal = AbortSignal.any([stop.signal, ending.signal])
    const prepared = unready
      .makeReady(ending.signal, stop.signal)
      .then(() => {
        const layer = unready instanceof UnfinishedOpening ? unready.opened : undefined
        if (!layer) return
        // The machine has begun another attempt, or the server ends.
        if (signal.aborted) return layer.close()
        closeIdlest()
        serveRoot(name, { ...root, layer })
      })
      .catch((error: unknown) => {
        if (ending.signal.aborted || (signal.aborted && error === signal.reason)) return
        layers.fails(name, boots, error)
        fail(name, error)
      })
    void work.begin(name, prepared, stop)
  }

  function fail(name: string, error: unknown): void {
    const known = asNetimageError(error)
    if (failures.get(name)?.message !== known.message) onError(known)
    remember(failures, name, { message: known.message, at: performance.now() })
  }

  function forget(name: string): Promise<void> {
    work.stop(name)
    const machine = open.get(name)
    if (!machine) return work.of(name) ?? Promise.resolve()
    open.delete(name)
    const { layer, index } = machine.root
    return work.begin(
      name,
      layer.close().finally(() => closeIndex(index)),
    )
  }

  function closeIndex(index: ImageIndex): void {
    index.close()
    indexes.delete(index)
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
    nfsMachineOf,
    async treesOf({ address, protocol, file, mac, serial, ip }) {
      const asking = await identities.nameSoon(address)
      if (asking === undefined) throw notKnown(address)
      // Permission depends on the sender's address, not on the names in the request.
      if (!isAllowed(asking) && !isAllowed(address)) return undefined
      if (serial !== undefined && isPiStart.test(file) && asking.includes(':')) {
        onSerial?.(asking, serial)
      }
      const named = mac === undefined ? undefined : identities.machineOf(mac)
      const owner = serial === undefined ? undefined : ownerOf?.(serial)
      const name = named ?? owner ?? (ip === undefined ? asking : (identities.nameAt(ip) ?? ip))
      const own = join(state, 'boot', folderOf(serial ?? name))
      // Behind a router, only the request tells which machine it is.
      const isOfAnother = name !== asking && (ip !== undefined || asking.includes(':'))
      const event = { kind: protocol, step: 'begin', file, bytes: 0, address } as const
      const booted = await gate.enter(asking, { ...event, ...macOf(asking) })
      if (!booted) throw nothingToBoot(asking)
      const { attempt } = booted
      const isBusy = open.has(asking) || work.of(asking) || hasJustFailed(asking)
      // Until the machine mounts its root, there is time to prepare the layer.
      if (attempt !== undefined && !isBusy) isPrepared(asking, attempt)
      return { image: booted.system.bootTree, ...(!isOfAnother && existsSync(own) && { own }) }
    },
    systems: () => [...gate.systems(), ...indexes.values()],
    rootOf(name) {
      const root = open.get(name)?.root
      if (!root) return undefined
      return {
        fileSystem: root.layer.fileSystem,
        system: root.system,
        isInit: (node) => (root.inits ??= findInits(root)).has(node),
      }
    },
    closeUnused(before) {
      for (const [name, { lastCall }] of open) {
        if (lastCall < before && !identities.isConnected(name)) forgetNow(name)
      }
    },
    begins(name) {
      if (ephemeral) unreset.add(name)
      forgetNow(name)
    },
    whenClosed: (name) => work.of(name) ?? Promise.resolve(),
    async close() {
      isEnding = true
      ending.abort()
      const names = [...open.keys(), ...work.names()]
      await whenAllEnd(names.map((name) => forget(name)))
    },
  }
}

function findInits({ system, layer }: Root): Set<NodeId> {
  const found = system.inits.map((init) => {
    try {
      return findNode(layer.fileSystem, init.split('/').filter(Boolean))
    } catch (error) {
      // With EAGAIN, the server lacks something now. The next call looks again.
      if (!(error instanceof FileSystemError) || error.code === 'EAGAIN') throw error
      // The image is damaged. A machine that boots this init gets the error when it reads the file,
      // and the error is reported then. Other machines boot another init.
      return undefined
    }
  })
  return new Set(found.filter((node) => node !== undefined))
}

/** Waits for the end of all of them, and only then throws the first error, if there is one. */
async function whenAllEnd(promises: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === 'rejected') throw result.reason
  }
}
