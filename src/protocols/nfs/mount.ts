/** The program MOUNT version 3 [RFC 1813, appendix I]: from a path to the first file handle. */
import { setTimeout as sleep } from 'node:timers/promises'

import { FileSystemError, type NodeId } from './file-system.ts'
import { notServed, type Report } from '../event.ts'
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
  address: string
  path: BytePath
}

type MountStatus = keyof typeof mountStatus

const maxPathBytes = 1024
/**
 * How long a mount waits for a root that cannot be opened now: less than the minute that Linux waits,
 * and longer than it takes to notice that the machine lost its power, so that its old connection, from
 * another address perhaps, is none any more.
 */
const [patienceMs, retryMs] = [40_000, 250]
/** Nothing depends on the list: it is what `showmount -a` shows. */
const maxMounts = 1024
/** AUTH_SYS, and AUTH_NONE for those who are content with what everybody may. */
const flavors = [1, 0]

export function createMountProgram({ machineOf, serve, report }: MountProgramOptions): Program {
  const mounts = new Map<string, Mount>()
  /** By connection, so that any number of calls costs one look at a time. */
  const waiting = new WeakMap<Caller, Promise<void>>()

  const mount: Procedure = (call, results) => {
    const path = readPath(call)
    // A call holds on to all that came with it, and is not to be kept while it waits.
    const { caller } = call
    const machine = machineOf(caller)
    if (machine !== 'busy') {
      mountFor(machine, path, caller.address, results)
      return undefined
    }
    // Linux takes a refusal as final, and a machine that boots then has no root.
    return {
      until: caller.transport === 'udp' ? Promise.resolve() : untilReady(caller),
      results: (later) => mountFor(machineOf(caller), path, caller.address, later),
      otherwise: (_, later) => later.uint32(mountStatus.MNT3ERR_SERVERFAULT),
    }
  }

  function untilReady(caller: Caller): Promise<void> {
    const known = waiting.get(caller)
    if (known) return known
    const ready = poll(caller).finally(() => waiting.delete(caller))
    waiting.set(caller, ready)
    return ready
  }

  async function poll(caller: Caller): Promise<void> {
    const end = performance.now() + patienceMs
    do await sleep(retryMs, undefined, { ref: false })
    while (machineOf(caller) === 'busy' && performance.now() < end)
  }

  function mountFor(
    machine: ReturnType<MachineOf>,
    path: BytePath,
    address: string,
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
    if (mounts.size < maxMounts) mounts.set(key, { address, path })
    results.uint32(mountStatus.MNT3_OK)
    results.opaque(serve(result.exported).handles.make(result.node))
    results.uint32(flavors.length)
    for (const flavor of flavors) results.uint32(flavor)
    report({ ...clueOf(address, machine), kind: 'nfs', step: 'mount', path: shown(path) })
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
    if (mounts.delete(JSON.stringify([call.caller.address, path]))) reportUnmount(call, path)
    return undefined
  }

  const unmountAll: Procedure = (call) => {
    for (const [key, { address, path }] of mounts) {
      if (address !== call.caller.address) continue
      mounts.delete(key)
      reportUnmount(call, path)
    }
    return undefined
  }

  function reportUnmount(call: Call, path: BytePath): void {
    const clue = clueOf(call.caller.address, machineOf(call.caller))
    report({ ...clue, kind: 'nfs', step: 'unmount', path: shown(path) })
  }

  /** What the asking machine may mount; only it may mount that, hence nobody else is told. */
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

/** Names are bytes, in whatever encoding: a path holds each byte as a character of Latin-1. */
type BytePath = string

function bytePath(path: string): BytePath {
  return Buffer.from(path).toString('latin1')
}

/** For people. */
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

/** In the words of a person, who may have named the wrong path. */
function reasonOf(status: MountStatus, machine: ReturnType<MachineOf>): string {
  if (machine === undefined) return notServed
  if (machine === 'busy') return 'its root cannot be opened now'
  switch (status) {
    case 'MNT3ERR_ACCES':
      return `its root is ${machine.exports.map(({ path }) => path).join(' or ')}`
    case 'MNT3ERR_NOENT':
      return 'there is no such directory'
    case 'MNT3ERR_NOTDIR':
      return 'that is no directory'
    default:
      return status
  }
}

function find(
  machine: ReturnType<MachineOf>,
  path: BytePath,
): { exported: NfsExport; node: NodeId } | MountStatus {
  if (machine === undefined) return 'MNT3ERR_ACCES'
  if (machine === 'busy') return 'MNT3ERR_SERVERFAULT'
  const parts = partsOf(path)
  if (!path.startsWith('/')) return 'MNT3ERR_NOENT'
  const [exported] = exportsAbove(machine, parts)
  if (!exported) return 'MNT3ERR_ACCES'
  return findBelow(exported, parts.slice(partsOf(bytePath(exported.path)).length))
}

/** The nearest first. */
function exportsAbove({ exports }: NfsMachine, parts: string[]): NfsExport[] {
  return exports
    .filter(({ path }) => partsOf(bytePath(path)).every((part, index) => part === parts[index]))
    .toSorted((one, other) => partsOf(other.path).length - partsOf(one.path).length)
}

function partsOf(path: BytePath): string[] {
  return path.split('/').filter((part) => part !== '')
}

/** Also a directory below an export may be mounted; it grants nothing that its root would not. */
function findBelow(
  exported: NfsExport,
  parts: string[],
): { exported: NfsExport; node: NodeId } | MountStatus {
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
