/** Programs that answer calls, whatever carries them. */
import {
  readCall,
  writeAccepted,
  writeNotDone,
  writeProgramMismatch,
  writeRefusal,
  type Credentials,
} from './message.ts'
import { XdrError, XdrReader, type XdrWriter } from './xdr.ts'

/** The other end of a connection, or of a single datagram: one object for each. */
export interface Caller {
  /** IPv4, or IPv6. */
  address: string
  transport: 'tcp' | 'udp'
}

export interface Call {
  caller: Caller
  xid: number
  credentials: Credentials
  arguments: XdrReader
}

/**
 * Does what is asked and writes the results.
 *
 * @returns where the results may not be sent yet: when they may
 * @throws `XdrError` where the arguments are malformed; nothing was done then
 */
export type Procedure = (call: Call, results: XdrWriter) => Held | undefined

/** Results that are sent once something has come about; never by UDP, where clients ask again. */
export interface Held {
  until: Promise<void>
  /** Writes the results that are sent then, where they were not written yet. */
  results?: (results: XdrWriter) => void
  /** Writes the results that are sent if it does not come about. */
  otherwise: (error: unknown, results: XdrWriter) => void
}

export interface Program {
  number: number
  /** Each version's procedures, by number; the first does nothing. */
  versions: ReadonlyMap<number, readonly (Procedure | undefined)[]>
  /** Told if a client asks for a version that is not there. */
  onOtherVersion?: (caller: Caller, version: number) => void
}

/** Told of failures that are defects of ours. */
export type OnDefect = (error: unknown) => void

/** The procedure of every program that does nothing. */
export const nullProcedure: Procedure = () => undefined

/**
 * Writes the reply to a call.
 *
 * @returns where the reply may not be sent yet: when it may
 * @throws `XdrError` where there is no call to reply to
 */
export function answerCall(
  message: Buffer,
  caller: Caller,
  programs: readonly Program[],
  onDefect: OnDefect,
  reply: XdrWriter,
): Held | undefined {
  const reader = new XdrReader(message)
  const header = readCall(reader)
  if ('refusal' in header) {
    writeRefusal(reply, header)
    return undefined
  }
  const { xid, credentials } = header
  const program = programs.find(({ number }) => number === header.program)
  if (!program) {
    writeNotDone(reply, xid, 'programUnavailable')
    return undefined
  }
  const procedures = program.versions.get(header.version)
  if (!procedures) {
    writeProgramMismatch(reply, xid, program.versions.keys())
    program.onOtherVersion?.(caller, header.version)
    return undefined
  }
  const procedure = procedures[header.procedure]
  if (!procedure) {
    writeNotDone(reply, xid, 'procedureUnavailable')
    return undefined
  }
  const start = reply.length
  try {
    writeAccepted(reply, xid)
    const held = procedure({ caller, xid, credentials, arguments: reader }, reply)
    return held && withHeader(held, xid)
  } catch (error) {
    reply.truncate(start)
    if (error instanceof XdrError) {
      writeNotDone(reply, xid, 'garbageArguments')
    } else {
      onDefect(error)
      writeNotDone(reply, xid, 'systemError')
    }
    return undefined
  }
}

function withHeader({ until, results, otherwise }: Held, xid: number): Held {
  return {
    until,
    ...(results && {
      results(reply) {
        writeAccepted(reply, xid)
        results(reply)
      },
    }),
    otherwise(error, reply) {
      writeAccepted(reply, xid)
      otherwise(error, reply)
    },
  }
}
