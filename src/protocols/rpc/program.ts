/** Programs that answer calls, for any transport. */
import {
  readCall,
  writeAccepted,
  writeNotDone,
  writeProgramMismatch,
  writeRefusal,
  type Credentials,
} from './message.ts'
import { XdrError, XdrReader, type XdrWriter } from './xdr.ts'

/** The client of a connection, or of one datagram. Each connection has its own object. */
export interface Caller {
  /** IPv4 or IPv6. */
  address: string
  transport: 'tcp' | 'udp'
  /** Makes the connection end within some seconds if the client does not answer any more. */
  probe?: () => void
}

export interface Call {
  caller: Caller
  xid: number
  credentials: Credentials
  arguments: XdrReader
  /** The call was postponed before. */
  isAgain: boolean
}

/**
 * Runs the call and writes the results.
 *
 * @returns undefined if the results may be sent at once; otherwise when they may be sent, or when the call is to
 *   be run again
 * @throws `XdrError` if the arguments are malformed; then nothing was changed
 */
export type Procedure = (call: Call, results: XdrWriter) => Held | Postponed | undefined

/** Results that must wait. By UDP they are never sent: there clients ask again. */
export interface Held {
  until: Promise<void>
  /** Writes the results when `until` is fulfilled; undefined if they are written already. */
  results?: (results: XdrWriter) => void
  /** Writes the results if `until` is rejected. */
  otherwise: (error: unknown, results: XdrWriter) => void
}

/**
 * The call was not possible, and has changed nothing. It is run once more, from its beginning. By UDP it is not:
 * there clients ask again.
 */
export interface Postponed {
  /** It may be possible when this has ended. */
  again: Promise<void>
}

export interface Program {
  number: number
  /** The procedures of each version, by number; the first one does nothing. */
  versions: ReadonlyMap<number, readonly (Procedure | undefined)[]>
  /** Called if a client asks for an unsupported version. */
  onOtherVersion?: (caller: Caller, version: number) => void
}

/** Called with errors that are defects of netimage. */
export type OnDefect = (error: unknown) => void

/** Procedure 0 of every program; it does nothing. */
export const nullProcedure: Procedure = () => undefined

/**
 * Writes the reply to a call.
 *
 * @param isAgain whether the call was postponed before
 * @returns undefined if the reply may be sent at once; otherwise when it may be sent, or when the call is to be run
 *   again
 * @throws `XdrError` if the message is not a call
 */
export function answerCall(
  message: Buffer,
  caller: Caller,
  programs: readonly Program[],
  onDefect: OnDefect,
  reply: XdrWriter,
  isAgain = false,
): Held | Postponed | undefined {
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
    const left = procedure({ caller, xid, credentials, arguments: reader, isAgain }, reply)
    return left && 'until' in left ? withHeader(left, xid) : left
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
