/**
 * The ports of transfers by the optional addon `native/ports.c`. With it, TFTP needs about two thirds of the
 * processor time: Node makes several objects for each packet.
 */
import { getSystemErrorMessage } from 'node:util'

import { builtAddon, hasFunctions, loadAddon } from '../../addon.ts'
import { belongsToAnother, isRefused, type OpenPort } from './ports.ts'

/** The functions of `native/ports.c`, which describes them. */
interface Addon {
  start(incoming: Buffer, receive: (count: number) => void): void
  socketAddress(host: string, port: string): Buffer
  open(address: string): number
  send(port: number, packet: Buffer, to: Buffer): number
  sendAll(port: number, packets: readonly Buffer[], to: Buffer): number
  close(port: number): void
}

// The same numbers as in ports.c.
const [slots, slotBytes, senderAt, payloadAt] = [64, 2048, 8, 40]
const acknowledgmentBytes = 4
/** The kernel cuts no packets that are larger than those of Ethernet. */
const mostCutBytes = 1472

type Receive = (sender: Buffer, packet: Buffer) => void

/**
 * @param file the addon
 * @returns undefined if there is no addon for this computer
 */
export function createNativePorts(file = builtAddon): OpenPort | undefined {
  const receivers = new Map<number, Receive>()
  const addon = start(file, receivers)
  if (!addon) return undefined

  return ({ address, peer, receive, fail }) => {
    const to = addon.socketAddress(peer.host, String(peer.port))
    const port = addon.open(address)
    receivers.set(port, (sender, packet) => {
      if (to.compare(sender, 0, to.length) === 0) receive(packet)
      else if (isRefused(packet)) addon.send(port, belongsToAnother, sender.subarray(0, to.length))
    })
    let isOpen = true
    const failLater = (number: number) => {
      // Later, as with Node's sockets: the sender may be in the middle of its window.
      setImmediate(() => isOpen && fail(new Error(getSystemErrorMessage(-number))))
    }
    const send = (packet: Buffer) => {
      const number = addon.send(port, packet, to)
      if (number !== 0) failLater(number)
    }
    return {
      send,
      sendAll(packets) {
        const [first] = packets
        if (packets.length === 1 || (first && first.length > mostCutBytes)) packets.forEach(send)
        else {
          const number = addon.sendAll(port, packets, to)
          if (number !== 0) failLater(number)
        }
      },
      close() {
        isOpen = false
        receivers.delete(port)
        addon.close(port)
      },
    }
  }
}

function start(file: string, receivers: ReadonlyMap<number, Receive>): Addon | undefined {
  const incoming = Buffer.alloc(slots * slotBytes)
  const words = new Uint32Array(incoming.buffer, incoming.byteOffset, incoming.length / 4)
  // Made once: nearly all packets are acknowledgments.
  const views = Array.from({ length: slots }, (_, slot) => {
    const [sender, payload] = [slot * slotBytes + senderAt, slot * slotBytes + payloadAt]
    return {
      sender: incoming.subarray(sender, payload),
      acknowledgment: incoming.subarray(payload, payload + acknowledgmentBytes),
    }
  })

  function receive(count: number): void {
    for (const [slot, { sender, acknowledgment }] of views.entries()) {
      if (slot === count) break
      const at = slot * slotBytes
      const [port = 0, length = 0] = [words[at / 4], words[at / 4 + 1]]
      const payload = at + payloadAt
      const packet =
        length === acknowledgmentBytes
          ? acknowledgment
          : incoming.subarray(payload, payload + length)
      receivers.get(port)?.(sender, packet)
    }
  }

  const loaded = loadAddon(file)
  if (!isAddon(loaded)) return undefined
  try {
    loaded.start(incoming, receive)
    return loaded
  } catch {
    // No descriptor is left.
    return undefined
  }
}

function isAddon(loaded: unknown): loaded is Addon {
  return hasFunctions(loaded, ['start', 'socketAddress', 'open', 'send', 'sendAll', 'close'])
}
