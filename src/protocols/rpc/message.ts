/** The messages of ONC RPC version 2 [RFC 5531 §9], and their credentials [§8.2, appendix A]. */
import { XdrError, type XdrReader, type XdrWriter } from './xdr.ts'

export interface Credentials {
  uid: number
  gid: number
  /** Supplementary groups. */
  groups: readonly number[]
}

export interface CallHeader {
  /** The number that connects a reply to its call. */
  xid: number
  program: number
  version: number
  procedure: number
  credentials: Credentials
}

/** A call that is refused because of its header. */
export interface RefusedCall {
  xid: number
  refusal: 'rpc-version' | 'bad-credentials' | 'unsupported-credentials'
}

const rpcVersion = 2
const messageType = { call: 0, reply: 1 } as const
const replyStatus = { accepted: 0, denied: 1 } as const
const rejectStatus = { rpcMismatch: 0, authError: 1 } as const
const flavor = { none: 0, sys: 1 } as const
const maxAuthBytes = 400
const maxMachineNameBytes = 255
const maxGroups = 16

/** [RFC 5531 §9, auth_stat] */
const authStatus = { 'bad-credentials': 1, 'unsupported-credentials': 2 } as const

/** [RFC 5531 §9, accept_stat] */
const acceptStatus = {
  success: 0,
  programUnavailable: 1,
  programMismatch: 2,
  procedureUnavailable: 3,
  garbageArguments: 4,
  systemError: 5,
} as const

/** The credentials of a call with AUTH_NONE. */
const nobody: Credentials = { uid: 65534, gid: 65534, groups: [] }

/**
 * Reads the header of a call, up to the arguments.
 *
 * @throws `XdrError` if no reply is possible: the message is not a call, or ends within its header
 */
export function readCall(reader: XdrReader): CallHeader | RefusedCall {
  const xid = reader.uint32()
  if (reader.uint32() !== messageType.call) throw new XdrError('the message is not a call')
  if (reader.uint32() !== rpcVersion) return { xid, refusal: 'rpc-version' }
  const program = reader.uint32()
  const version = reader.uint32()
  const procedure = reader.uint32()
  const credentials = readCredentials(reader)
  if (typeof credentials === 'string') return { xid, refusal: credentials }
  // The verifier has no meaning in the flavors that we support.
  reader.uint32()
  reader.opaque(maxAuthBytes)
  return { xid, program, version, procedure, credentials }
}

function readCredentials(
  reader: XdrReader,
): Credentials | 'bad-credentials' | 'unsupported-credentials' {
  const kind = reader.uint32()
  const length = reader.uint32()
  if (length > maxAuthBytes) return 'bad-credentials'
  const end = reader.position + length
  if (kind === flavor.none) {
    reader.fixed(length)
    return nobody
  }
  if (kind !== flavor.sys) return 'unsupported-credentials'
  try {
    reader.uint32() // the stamp: any number
    reader.opaque(maxMachineNameBytes)
    const uid = reader.uint32()
    const gid = reader.uint32()
    const count = reader.uint32()
    if (count > maxGroups) return 'bad-credentials'
    const groups: number[] = []
    while (groups.length < count) groups.push(reader.uint32())
    return reader.position === end ? { uid, gid, groups } : 'bad-credentials'
  } catch (error) {
    if (error instanceof XdrError) return 'bad-credentials'
    throw error
  }
}

/** Writes the header of a successful reply, up to the results. */
export function writeAccepted(writer: XdrWriter, xid: number): void {
  writeAcceptedWith(writer, xid, acceptStatus.success)
}

export function writeNotDone(
  writer: XdrWriter,
  xid: number,
  why: Exclude<keyof typeof acceptStatus, 'success' | 'programMismatch'>,
): void {
  writeAcceptedWith(writer, xid, acceptStatus[why])
}

/** @param versions the versions of the program that we support */
export function writeProgramMismatch(
  writer: XdrWriter,
  xid: number,
  versions: Iterable<number>,
): void {
  writeAcceptedWith(writer, xid, acceptStatus.programMismatch)
  const known = [...versions]
  writer.uint32(Math.min(...known))
  writer.uint32(Math.max(...known))
}

export function writeRefusal(writer: XdrWriter, { xid, refusal }: RefusedCall): void {
  writer.uint32(xid)
  writer.uint32(messageType.reply)
  writer.uint32(replyStatus.denied)
  if (refusal === 'rpc-version') {
    writer.uint32(rejectStatus.rpcMismatch)
    writer.uint32(rpcVersion)
    writer.uint32(rpcVersion)
  } else {
    writer.uint32(rejectStatus.authError)
    writer.uint32(authStatus[refusal])
  }
}

function writeAcceptedWith(writer: XdrWriter, xid: number, status: number): void {
  writer.uint32(xid)
  writer.uint32(messageType.reply)
  writer.uint32(replyStatus.accepted)
  writer.uint32(flavor.none)
  writer.uint32(0) // an empty verifier
  writer.uint32(status)
}
