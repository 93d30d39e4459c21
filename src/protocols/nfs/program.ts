/** The program NFS version 3: the common part of all procedures. */
import { messageOf } from '../../errors.ts'
import { remember } from '../../remember.ts'
import { createQuota, type Quota } from '../quota.ts'
import { FileSystemError, type NodeId } from './file-system.ts'
import {
  nullProcedure,
  type Call,
  type Held,
  type Postponed,
  type Procedure,
  type Program,
} from '../rpc/program.ts'
import type { XdrWriter } from '../rpc/xdr.ts'
import { writeAttributesAfter, writeChange } from './attributes.ts'
import { openFirstNode, type Awaited, type NfsCall, type NfsProcedure } from './call.ts'
import { newWriteVerifier, type MachineOf, type NfsMachine, type Serve } from './machine.ts'
import { procedures } from './procedures/procedures.ts'
import {
  NfsError,
  nfsProgram,
  nfsVersion,
  status,
  statusOfError,
  type FailureStatus,
} from './protocol.ts'

/** An operation that succeeded. */
export interface Observation {
  /** The name from `machineOf`. */
  machine: string
  /** For example `READ`. */
  procedure: string
  /**
   * The node of the operation; for operations on a name, the node with this name, if there is one.
   */
  node?: NodeId
  /** For operations on a name: the directory of the name. */
  directory?: NodeId
  name?: Buffer
  /** The number of bytes that were read or written. */
  bytes?: number
}

export interface NfsProgramOptions {
  machineOf: MachineOf
  serve: Serve
  /** Called with errors that the machine did not cause, with the name of the procedure. */
  onFailure: (call: Call, procedure: string, error: unknown) => void
  observe: ((observation: Observation) => void) | undefined
  /** Called with the errors of `observe`, once for each message about a machine. */
  onUnobserved: (observation: Observation, error: unknown) => void
}

export function createNfsProgram(options: NfsProgramOptions): Program {
  const guarded = { ...options, observe: observeSafely(options) }
  const places = createQuota(postponedLimits)
  const numbered = procedures.map((procedure, index) =>
    answering(procedure, index + 1, guarded, places),
  )
  return { number: nfsProgram, versions: new Map([[nfsVersion, [nullProcedure, ...numbered]]]) }
}

const ofServer = new Set<FailureStatus>(['NFS3ERR_IO', 'NFS3ERR_NOSPC', 'NFS3ERR_DQUOT'])

/** Whether only the server's administrator can mend it, such as a lack of file descriptors. */
function isOfServer(failure: FailureStatus, error: unknown): boolean {
  if (ofServer.has(failure)) return true
  return failure === 'NFS3ERR_JUKEBOX' && error instanceof Error && error.cause !== undefined
}

/** The operation is done when it is observed. So an error of the observer must not become its answer. */
function observeSafely({
  observe,
  onUnobserved,
}: Pick<NfsProgramOptions, 'observe' | 'onUnobserved'>): NfsProgramOptions['observe'] {
  if (!observe) return undefined
  const told = new Map<string, true>()
  return (observation) => {
    try {
      observe(observation)
    } catch (error) {
      const { machine, procedure } = observation
      const message = `${machine} ${procedure} ${messageOf(error)}`
      if (!told.has(message)) onUnobserved(observation, error)
      remember(told, message, true)
    }
  }
}

/** The most bytes of the arguments of a call that is postponed. */
const keptArguments = 4096
/** The most calls that are postponed at a time. Only their arguments are kept. */
const postponedLimits = { most: 2048, mostOfKey: 64 }

function answering(
  procedure: NfsProcedure,
  number: number,
  { machineOf, serve, onFailure, observe }: Omit<NfsProgramOptions, 'onUnobserved'>,
  places: Quota,
): Procedure {
  return (rpcCall, results) => {
    const start = results.length
    const argumentsStart = rpcCall.arguments.position
    let call: NfsCall | undefined
    let machine: ReturnType<MachineOf>
    try {
      machine = machineOf(rpcCall.caller)
      if (machine === undefined) throw new NfsError('NFS3ERR_ACCES')
      // A program of a machine that has its root must wait: an error could cost it its data.
      if (machine === 'busy' || machine === 'second') throw new NfsError('NFS3ERR_JUKEBOX')
      const { xid, credentials, arguments: reader } = rpcCall
      const { served, node } = openFirstNode(reader, machine, serve)
      call = {
        xid,
        procedure: number,
        credentials,
        arguments: reader,
        argumentsStart,
        served,
        nodes: [node],
        seen: {},
      }
      results.uint32(status.NFS3_OK)
      const awaited = procedure.run(call, node, results)
      if (observe) {
        // Operations on a name have set `seen.node`; other operations are about the node itself.
        const about = call.seen.name === undefined ? { node: node.id } : undefined
        observe({ machine: machine.name, procedure: procedure.name, ...about, ...call.seen })
      }
      return awaited && heldUntil(awaited, call, rpcCall)
    } catch (error) {
      const failure = failureOf(error)
      if (failure === undefined) throw error
      const { length } = rpcCall.arguments.since(argumentsStart)
      const mayWait = !rpcCall.isAgain && length <= keptArguments
      // Otherwise Linux would wait for five seconds before it asks again.
      const postponed = mayWait && typeof machine === 'object' && postpone(machine, error, places)
      if (postponed) return postponed
      if (isOfServer(failure, error)) onFailure(rpcCall, procedure.name, error)
      results.truncate(start)
      writeFailure(results, procedure, failure, call)
      return undefined
    }
  }

  function heldUntil(awaited: Awaited, call: NfsCall, rpcCall: Call): Held {
    const { served, nodes } = call
    const { fileSystem } = served
    const [node] = nodes
    const until = awaited === 'data' && node ? fileSystem.commit(node.id) : fileSystem.stable()
    return {
      until,
      otherwise(error, results) {
        const failure = failureOf(error) ?? 'NFS3ERR_IO'
        // Earlier writes may be lost too. With a new verifier, the client writes all uncommitted
        // data again.
        if (failure !== 'NFS3ERR_JUKEBOX') served.writeVerifier = newWriteVerifier()
        onFailure(rpcCall, procedure.name, error)
        writeFailure(results, procedure, failure, call)
      },
    }
  }
}

/** @returns undefined for a defect or malformed arguments, which are not a failure of NFS */
function failureOf(error: unknown): FailureStatus | undefined {
  if (error instanceof NfsError) return error.status
  if (error instanceof FileSystemError) return statusOfError[error.code]
  return undefined
}

/** @returns undefined if nobody knows when the call may be possible, or if too many wait */
function postpone({ name }: NfsMachine, error: unknown, places: Quota): Postponed | undefined {
  const until = error instanceof FileSystemError ? error.until : undefined
  if (!until || !places.take(name)) return undefined
  return { again: until.finally(() => places.free(name)) }
}

function writeFailure(
  results: XdrWriter,
  { failure }: NfsProcedure,
  name: FailureStatus,
  call: NfsCall | undefined,
): void {
  results.uint32(status[name])
  for (const [index, part] of failure.entries()) {
    const node = call?.nodes[index]
    if (!call || !node) {
      // The node is not known, so there are no attributes, neither before nor after.
      results.boolean(false)
      if (part === 'change') results.boolean(false)
    } else if (part === 'attributes') {
      writeAttributesAfter(results, call.served, node.id)
    } else {
      writeChange(results, call.served, node)
    }
  }
}
