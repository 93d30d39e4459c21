/** The two directions of a push, as one of the two servers sees them. What comes in is taken as hostile. */
import type { Readable, Writable } from 'node:stream'
import * as v from 'valibot'

import { isErrorCode, messageOf, NetimageError } from '../../errors.ts'
import { createByteReader } from '../../nix/byte-reader.ts'
import { encodeFrame, readFrame, type FrameKind } from './frames.ts'
import { failedSchema, type Failed, type FromReceiver, type FromSender } from './messages.ts'

type Message = FromSender | FromReceiver

export interface Channel<In extends Message, Out extends Message> {
  /**
   * @throws `NetimageError`: the failure that the other server says; `remote-failed` if the connection has
   *   ended; `bad-message`
   */
  message(): Promise<In>
  /**
   * So many bytes of data, in pieces of 1 byte at least.
   *
   * @param what its name in errors
   * @throws as `message`; `bad-message` also if more comes
   */
  pieces(bytes: number, what: string): AsyncGenerator<Buffer>
  /** Resolves when the bytes are on their way, so that a caller who waits needs little memory. */
  say(message: Out | Failed): Promise<void>
  /** As `say`, for data. */
  give(piece: Buffer): Promise<void>
  /** All bytes that were written, with those of the frames. */
  written(): number
}

/** As the sender sees it. */
export type ToReceiver = Channel<FromReceiver, FromSender>
/** As the receiver sees it. */
export type ToSender = Channel<FromSender, FromReceiver>

export interface ChannelSettings<In extends Message> {
  input: Readable
  output: Writable
  /** Of the messages that come in. */
  schema: v.GenericSchema<unknown, In>
  /** The other server, for errors: `lab2`, `the sender`. */
  other: string
  /** Its reason is the error of all that waits. */
  signal: AbortSignal
  /** If the other server does nothing for so long, it counts as gone. Default: for ever. */
  patienceMs?: number | undefined
}

export function openChannel<In extends Message, Out extends Message>({
  input,
  output,
  schema,
  other,
  signal,
  patienceMs,
}: ChannelSettings<In>): Channel<In, Out> {
  const broken = (why: string, { field }: { field?: string } = {}) =>
    field === 'end' ? new CutOff(other) : badMessage(other, why)
  const reader = createByteReader(untilBroken(input), { left: Number.MAX_SAFE_INTEGER }, broken)
  /** Those who wait for the other server. */
  const waiting = new Set<(reason: unknown) => void>()
  let written = 0

  // What is read tells that the other server has ended.
  for (const stream of [input, output]) stream.on('error', () => {})
  signal.addEventListener('abort', () => {
    input.destroy()
    for (const reject of waiting) reject(signal.reason)
  })

  function patiently<T>(action: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const isLate = () => reject(silent(other, patienceMs))
      const timer = patienceMs === undefined ? undefined : setTimeout(isLate, patienceMs)
      waiting.add(reject)
      void action()
        .then(resolve, reject)
        .finally(() => {
          clearTimeout(timer)
          waiting.delete(reject)
        })
    })
  }

  async function read(expected: FrameKind): Promise<Buffer> {
    const frame = await patiently(() => readFrame(reader))
    if (!frame) throw new CutOff(other)
    if (frame.kind === expected) return frame.body
    if (frame.kind === 'message') parse(frame.body)
    throw badMessage(other, `a ${frame.kind} came in place of a ${expected}`)
  }

  /** @throws the failure, if the message is one */
  function parse(body: Buffer): In {
    let message: unknown
    try {
      message = JSON.parse(body.toString())
    } catch (error) {
      throw badMessage(other, messageOf(error))
    }
    const failed = v.safeParse(failedSchema, message)
    if (failed.success) throw failureOf(failed.output, other)
    const parsed = v.safeParse(schema, message)
    if (parsed.success) return parsed.output
    throw badMessage(other, parsed.issues[0].message)
  }

  async function write(kind: FrameKind, body: Buffer): Promise<void> {
    const frame = encodeFrame({ kind, body })
    written += frame.length
    await patiently(
      () =>
        new Promise<void>((resolve, reject) => {
          output.write(frame, (error) => (error ? reject(new CutOff(other)) : resolve()))
        }),
    )
  }

  return {
    message: async () => parse(await read('message')),
    async *pieces(bytes, what) {
      for (let left = bytes; left > 0;) {
        const piece = await read('data')
        if (piece.length === 0) throw badMessage(other, `a piece of ${what} is empty`)
        if (piece.length > left) throw badMessage(other, `${what} is longer than announced`)
        left -= piece.length
        yield piece
      }
    },
    say: (message) => write('message', Buffer.from(JSON.stringify(message))),
    give: (piece) => write('data', piece),
    written: () => written,
  }
}

async function* untilBroken(input: Readable): AsyncGenerator<Buffer> {
  try {
    for await (const piece of input) yield v.parse(v.instance(Buffer), piece)
  } catch {
    // A connection that breaks off is the end of what comes in.
  }
}

/** What the other server says is for the person, but not that it says so. */
function failureOf({ code, message, hint }: Failed, other: string): NetimageError {
  const said = `${other} says: ${message}`
  return new NetimageError(isErrorCode(code) ? code : 'remote-failed', said, { hint })
}

export function badMessage(other: string, why: string): NetimageError {
  return new NetimageError('bad-message', `what ${other} sent cannot be understood: ${why}`, {
    hint: 'Something else than netimage can have written into the connection, for example a start-up file of the shell there. If not, the other server is not to be trusted.',
  })
}

/** @throws `NetimageError` `bad-message` if the message is of another kind */
export function mustBe<M extends Message, Kind extends M['kind']>(
  message: M,
  kind: Kind,
  other: string,
): Extract<M, { kind: Kind }> {
  if (isOfKind(message, kind)) return message
  throw badMessage(other, `${message.kind} came in place of ${kind}`)
}

function isOfKind<M extends Message, Kind extends M['kind']>(
  message: M,
  kind: Kind,
): message is Extract<M, { kind: Kind }> {
  return message.kind === kind
}

/** What was finished stays: the next push goes on from there. */
export const goesOnHint =
  'What was finished stays there. Run this again, and only the rest is sent.'

/** The other server has ended the connection, without a word why. */
export class CutOff extends NetimageError {
  constructor(other: string) {
    super('remote-failed', `the connection to ${other} has ended`, { hint: goesOnHint })
  }
}

function silent(other: string, patienceMs: number | undefined): NetimageError {
  const message = `${other} has sent nothing for ${(patienceMs ?? 0) / 1000} seconds`
  return new NetimageError('remote-failed', message, { hint: goesOnHint })
}
