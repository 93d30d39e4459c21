/** The program NFS version 3: what is the same for all its procedures. */
import { FileSystemError, type NodeId } from './file-system.ts'
import {
  nullProcedure,
  type Call,
  type Held,
  type Procedure,
  type Program,
} from '../rpc/program.ts'
import type { XdrWriter } from '../rpc/xdr.ts'
import { writeAttributesAfter, writeChange } from './attributes.ts'
import { openFirstNode, type Awaited, type NfsCall, type NfsProcedure } from './call.ts'
import { newWriteVerifier, type MachineOf, type Serve } from './machine.ts'
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
  /** As `machineOf` names it. */
  machine: string
  /** `READ` */
  procedure: string
  /** What it was about; of operations on a name: what that names, if it still names anything. */
  node?: NodeId
  /** Of operations on a name: where it stands, and the name. */
  directory?: NodeId
  name?: Buffer
  /** Read or written. */
  bytes?: number
}

export interface NfsProgramOptions {
  machineOf: MachineOf
  serve: Serve
  /** Told of errors that are not the machine's, by the procedure's name. */
  onFailure: (call: Call, procedure: string, error: unknown) => void
  observe: ((observation: Observation) => void) | undefined
}

export function createNfsProgram(options: NfsProgramOptions): Program {
  const numbered = procedures.map((procedure, index) => answering(procedure, index + 1, options))
  return { number: nfsProgram, versions: new Map([[nfsVersion, [nullProcedure, ...numbered]]]) }
}

const ofServer: ReadonlySet<FailureStatus> = new Set([
  ...(['NFS3ERR_IO', 'NFS3ERR_NOSPC', 'NFS3ERR_DQUOT'] as const),
])

/** What only the person can mend who runs the server: such as that no descriptors are left. */
function isOfServer(failure: FailureStatus, error: unknown): boolean {
  if (ofServer.has(failure)) return true
  return failure === 'NFS3ERR_JUKEBOX' && error instanceof Error && error.cause !== undefined
}

function answering(
  procedure: NfsProcedure,
  number: number,
  { machineOf, serve, onFailure, observe }: NfsProgramOptions,
): Procedure {
  return (rpcCall, results) => {
    const start = results.length
    let call: NfsCall | undefined
    try {
      const machine = machineOf(rpcCall.caller)
      if (machine === undefined) throw new NfsError('NFS3ERR_ACCES')
      if (machine === 'busy') throw new NfsError('NFS3ERR_JUKEBOX')
      const { xid, credentials, arguments: reader } = rpcCall
      const argumentsStart = reader.position
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
        // Operations on a name have told what that names, and others are about the node itself.
        const about = call.seen.name === undefined ? { node: node.id } : undefined
        observe({ machine: machine.name, procedure: procedure.name, ...about, ...call.seen })
      }
      return awaited && heldUntil(awaited, call, rpcCall)
    } catch (error) {
      const failure = failureOf(error)
      if (failure === undefined) throw error
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
        // What was written before may be lost as well: all that is not committed comes again.
        if (failure !== 'NFS3ERR_JUKEBOX') served.writeVerifier = newWriteVerifier()
        onFailure(rpcCall, procedure.name, error)
        writeFailure(results, procedure, failure, call)
      },
    }
  }
}

/** undefined where it is no failure of an operation but a defect, or malformed arguments. */
function failureOf(error: unknown): FailureStatus | undefined {
  if (error instanceof NfsError) return error.status
  if (error instanceof FileSystemError) return statusOfError[error.code]
  return undefined
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
      // Nothing is known of it: no attributes, neither of before nor of after.
      results.boolean(false)
      if (part === 'change') results.boolean(false)
    } else if (part === 'attributes') {
      writeAttributesAfter(results, call.served, node.id)
    } else {
      writeChange(results, call.served, node)
    }
  }
}
