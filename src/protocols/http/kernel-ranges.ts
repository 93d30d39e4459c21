/**
 * Sends large parts of files by the optional addon `native/files.c`: the kernel sends its own copy of the file. What
 * the kernel cannot send at once is read and sent as without the addon: by this, Node waits until the
 * connection has room, and a thread waits for the disk.
 */
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout } from 'node:timers/promises'

import { builtAddon, hasFunctions, loadAddon } from '../../addon.ts'
import { inTurn } from '../turns.ts'
import type { SendRange, SentRange } from './body.ts'

/** The functions of `native/files.c`, which describes them. */
interface Addon {
  sendFile(socket: number, file: number, offset: number, length: number): number
  unacknowledged(socket: number): number
}

/** Less than this is copied in less time. Bytes. */
const worthIt = 1 << 18
const stepBytes = 1 << 19
/** What is copied when the connection is full, and at the end. */
const smallBytes = 1 << 14
/** How often it is looked, in the time after which a connection is idle, whether the machine takes its bytes. */
const looksInIdleTime = 8
/** If connections have no such time. Milliseconds. */
const defaultLookMs = 1000

/**
 * @param copyRange sends a part without the addon
 * @returns undefined if there is no addon for this computer
 */
export function createKernelRanges(copyRange: SendRange, file = builtAddon): SendRange | undefined {
  const addon = loadAddon(file)
  if (!isAddon(addon)) return undefined

  return async (response, sent) => {
    const { first, last } = sent.range
    if (last - first < worthIt) return copyRange(response, sent)
    response.flushHeaders()
    using _ = watchProgress(addon, response, sent)
    let position = first
    const end = last + 1 - smallBytes
    const copy = (length: number) =>
      copyRange(response, { ...sent, range: { first: position, last: position + length - 1 } })
    while (position < end) {
      const { bytes, isFull } = await sendNow(addon, response, sent, position, end)
      position += bytes
      if (position === end) break
      const length = Math.min(isFull ? smallBytes : stepBytes, end - position)
      await copy(length)
      position += length
    }
    // Until the machine has the bytes, a change of the file changes them. `copyRange` looks for changes.
    await whenAcknowledged(addon, response)
    await copy(smallBytes)
  }
}

/** Sends as much as the connection takes now. */
function sendNow(
  addon: Addon,
  { socket }: ServerResponse,
  { machine, file, onBytes }: SentRange,
  from: number,
  end: number,
): Promise<{ bytes: number; isFull: boolean }> {
  return new Promise((resolve) => {
    let position = from
    inTurn(machine, () => {
      const wanted = Math.min(stepBytes, end - position)
      // What Node has not sent yet comes first.
      const descriptor = socket?.writableLength === 0 ? descriptorOf(socket) : undefined
      const count =
        descriptor === undefined ? -1 : addon.sendFile(descriptor, file.fd, position, wanted)
      if (count > 0) {
        position += count
        onBytes(count)
      }
      if (count === wanted && position < end) return true
      resolve({ bytes: position - from, isFull: count >= 0 })
      return false
    })
  })
}

/**
 * The kernel holds so much for a slow machine that Node sends nothing for minutes. A machine that takes its bytes
 * meanwhile is not idle.
 */
function watchProgress(
  addon: Addon,
  { socket }: ServerResponse,
  { onBytes }: SentRange,
): Disposable {
  const idleMs = socket?.timeout ?? 0
  let before = 0
  const watching = setInterval(
    () => {
      const now = unacknowledgedBy(addon, socket) ?? before
      if (now !== before) {
        onBytes(0)
        // This begins the time anew.
        socket?.setTimeout(idleMs)
      }
      before = now
    },
    idleMs / looksInIdleTime || defaultLookMs,
  )
  return { [Symbol.dispose]: () => clearInterval(watching) }
}

async function whenAcknowledged(addon: Addon, { socket }: ServerResponse): Promise<void> {
  for (let pause = 1; ; pause = Math.min(2 * pause, 50)) {
    if (!unacknowledgedBy(addon, socket)) return
    await setTimeout(pause)
  }
}

/** @returns bytes, or undefined if the connection is closed */
function unacknowledgedBy(addon: Addon, socket: Socket | null): number | undefined {
  const descriptor = socket ? descriptorOf(socket) : undefined
  return descriptor === undefined ? undefined : addon.unacknowledged(descriptor)
}

/**
 * Node tells the descriptor of a connection nowhere else. It has to be asked for each time: when the connection was
 * closed, another file can have the number.
 */
function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle')
  if (typeof handle !== 'object' || handle === null) return undefined
  const descriptor: unknown = Reflect.get(handle, 'fd')
  return typeof descriptor === 'number' && descriptor >= 0 ? descriptor : undefined
}

function isAddon(loaded: unknown): loaded is Addon {
  return hasFunctions(loaded, ['sendFile', 'unacknowledged'])
}
