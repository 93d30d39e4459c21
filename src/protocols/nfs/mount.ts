/**
 * The program MOUNT version 3 [RFC 1813, appendix I]: it gives the first file handle for a path.
 */
import { setTimeout as sleep } from 'node:timers/promises'

import { FileSystemError, type NodeId } from './file-system.ts'
import { notServed, type Report } from '../event.ts'
import { createQuota } from '../quota.ts'
import {
  nullProcedure,
  type Call,
  type Caller,
  type Procedure,
  type Program,
} from '../rpc/program.ts'
import type { XdrWriter } from '../rpc/xdr.ts'
import type { MachineOf, NfsExport, NfsMachine, Serve } from './machine.ts'
import { maxName, mountProgram, mountStatus, mountVersion } from './protocol.ts'

export interface MountProgramOptions {
  machineOf: MachineOf
  serve: Serve
  report: Report
}

interface Mount {
  machine: string
  address: string
  path: BytePath
}

interface Found {
  exported: NfsExport
  node: NodeId
}

type MountStatus = keyof typeof mountStatus

const maxPathBytes = 1024
/**
 * How long a mount waits for a root that cannot be opened now. Linux waits longer, for a minute. The
 * server needs less time to notice that a machine lost its power: until then the machine's old
 * connection, maybe from another address, keeps its root busy.
 */
const [patienceMs, retryMs] = [40_000, 250]
/** Only `showmount -a` and the reports of unmounts use the list, so it need not be complete. */
const mountLimits = { most: 1024, mostOfKey: 16 }
/** AUTH_SYS, and AUTH_NONE for clients that need only the permissions of others. */
const flavors = [1, 0]

export function createMountProgram({ machineOf, serve, report }: MountProgramOptions): Program {
  const mounts = new Map<string, Mount>()
  const places = createQuota(mountLimits)
  /** By connection, so that all waiting calls of a connection share one timer. */
  const waiting = new WeakMap<Caller, Promise<void>>()

  const mount: Procedure = (call, results) => {
    const path = readPath(call)
    // Take only the caller: the call would keep its received bytes in memory while it waits.
    const { caller } = call
    const machine = machineOf(caller, shown(path))
    if (machine !== 'busy') {
      mountFor(machine, path, caller, results)
      return undefined
    }
    // Wait, because Linux does not try again after a refusal, and the machine would have no root.
    return {
      until: caller.transport === 'udp' ? Promise.resolve() : untilReady(caller, path),
      results: (later) => mountFor(machineOf(caller, shown(path)), path, caller, later),
      otherwise: (_, later) => later.uint32(mountStatus.MNT3ERR_SERVERFAULT),
    }
  }

  function untilReady(caller: Caller, path: BytePath): Promise<void> {
    const known = waiting.get(caller)
    if (known) return known
    const ready = poll(caller, path).finally(() => waiting.delete(caller))
    waiting.set(caller, ready)
    return ready
  }

  async function poll(caller: Caller, path: BytePath): Promise<void> {
    const end = performance.now() + patienceMs
    // A layer that is opened for a boot mostly waits for the disk only.
    for (let pause = 10; ; pause = Math.min(2 * pause, retryMs)) {
      await sleep(pause, undefined, { ref: false })
      if (machineOf(caller, shown(path)) !== 'busy' || performance.now() >= end) return
    }
  }

  function mountFor(
    machine: ReturnType<MachineOf>,
    path: BytePath,
    { address, transport }: Caller,
    results: XdrWriter,
  ): void {
    const result = find(machine, path)
    if (typeof result === 'string') {
      results.uint32(mountStatus[result])
      const reason = reasonOf(result, machine)
      const event = { kind: 'nfs', step: 'refuse', path: shown(path), reason } as const
      report({ ...clueOf(address, machine), ...event })
      return
    }
    const key = JSON.stringify([address, path])
    if (!mounts.has(key) && places.take(result.machine)) {
      mounts.set(key, { machine: result.machine, address, path })
    }
    results.uint32(mountStatus.MNT3_OK)
    results.opaque(serve(result.exported).handles.make(result.node))
    results.uint32(flavors.length)
    for (const flavor of flavors) results.uint32(flavor)
    report({
      ...clueOf(address, machine),
      ...{ kind: 'nfs', step: 'mount', path: shown(path) },
      ...(transport === 'udp' && { transport }),
    })
  }

  const dump: Procedure = (_call, results) => {
    for (const { address, path } of mounts.values()) {
      results.boolean(true)
      results.string(address)
      results.opaque(Buffer.from(path, 'latin1'))
    }
    results.boolean(false)
    return undefined
  }

  const unmount: Procedure = (call) => {
    const path = readPath(call)
    if (forget(JSON.stringify([call.caller.address, path]))) reportUnmount(call, path)
    return undefined
  }

  const unmountAll: Procedure = (call) => {
    for (const [key, { address, path }] of mounts) {
      if (address !== call.caller.address) continue
      forget(key)
      reportUnmount(call, path)
    }
    return undefined
  }

  /** @returns whether the mount was in the list */
  function forget(key: string): boolean {
    const known = mounts.get(key)
    if (known) places.free(known.machine)
    return mounts.delete(key)
  }

  function reportUnmount(call: Call, path: BytePath): void {
    const clue = clueOf(call.caller.address, machineOf(call.caller))
    report({ ...clue, kind: 'nfs', step: 'unmount', path: shown(path) })
  }

  /** Lists only the exports of the machine that asks: other machines cannot mount them. */
  const listExports: Procedure = (call, results) => {
    const machine = machineOf(call.caller)
    for (const { path } of typeof machine === 'object' ? machine.exports : []) {
      results.boolean(true)
      results.string(path)
      results.boolean(true) // a group of one
      results.string(call.caller.address)
      results.boolean(false)
    }
    results.boolean(false)
    return undefined
  }

  const procedures = [nullProcedure, mount, dump, unmount, unmountAll, listExports]
  return { number: mountProgram, versions: new Map([[mountVersion, procedures]]) }
}

/** Names are bytes in any encoding. A path has each byte as one character of Latin-1. */
type BytePath = string

function bytePath(path: string): BytePath {
  return Buffer.from(path).toString('latin1')
}

/** The path as text for people. */
function shown(path: BytePath): string {
  return Buffer.from(path, 'latin1').toString()
}

function readPath(call: Call): BytePath {
  return call.arguments.opaque(maxPathBytes).toString('latin1')
}

function clueOf(
  address: string,
  machine: ReturnType<MachineOf>,
): { address: string; mac?: string } {
  return typeof machine === 'object' && machine.mac !== undefined
    ? { address, mac: machine.mac }
    : { address }
}

/** The reason for the person, who may have configured a wrong path. */
function reasonOf(status: MountStatus, machine: ReturnType<MachineOf>): string {
  if (machine === undefined) return notServed
  if (machine === 'second') return 'another machine with the same hardware address uses the root'
  if (machine === 'busy') return 'the root of the machine cannot be opened now'
  if (machine.exports.length === 0) return 'the server does not know what the machine boots'
  switch (status) {
    case 'MNT3ERR_ACCES':
      return `the root of the machine is ${machine.exports.map(({ path }) => path).join(' or ')}`
    case 'MNT3ERR_NOENT':
      return 'there is no such directory'
    case 'MNT3ERR_NOTDIR':
      return 'the path is not a directory'
    default:
      return status
  }
}

function find(
  machine: ReturnType<MachineOf>,
  path: BytePath,
): (Found & { machine: string }) | MountStatus {
  if (machine === undefined || machine === 'second') return 'MNT3ERR_ACCES'
  if (machine === 'busy') return 'MNT3ERR_SERVERFAULT'
  const parts = partsOf(path)
  if (!path.startsWith('/')) return 'MNT3ERR_NOENT'
  const [exported] = exportsAbove(machine, parts)
  if (!exported) return 'MNT3ERR_ACCES'
  const found = findBelow(exported, parts.slice(partsOf(bytePath(exported.path)).length))
  return typeof found === 'string' ? found : { ...found, machine: machine.name }
}

/** The exports that contain the path, the longest export path first. */
function exportsAbove({ exports }: NfsMachine, parts: string[]): NfsExport[] {
  return exports
    .filter(({ path }) => partsOf(bytePath(path)).every((part, index) => part === parts[index]))
    .toSorted((one, other) => partsOf(other.path).length - partsOf(one.path).length)
}

function partsOf(path: BytePath): string[] {
  return path.split('/').filter((part) => part !== '')
}

/** A machine may also mount a directory below an export; this gives it no additional rights. */
function findBelow(exported: NfsExport, parts: string[]): Found | MountStatus {
  const { fileSystem } = exported
  try {
    let node = fileSystem.root
    for (const part of parts) {
      if (part === '.' || part === '..' || part.includes('\0')) return 'MNT3ERR_NOENT'
      if (part.length > maxName) return 'MNT3ERR_NAMETOOLONG'
      const next = fileSystem.lookup(node, Buffer.from(part, 'latin1'))
      if (next === undefined) return 'MNT3ERR_NOENT'
      if (fileSystem.attributes(next).kind !== 'directory') return 'MNT3ERR_NOTDIR'
      node = next
    }
    return { exported, node }
  } catch (error) {
    if (error instanceof FileSystemError) return 'MNT3ERR_IO'
    throw error
  }
}
