/** Finds out whether another DHCP server gives addresses on a network. */
import { randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

import { openDeviceSocket } from './device-socket.ts'
import { addressIn, byteValue, messageType, messageTypeOf, option } from './options.ts'
import { anyAddress, decodePacket, DhcpPacketError, encodePacket } from './packet.ts'

const tries = 3
const waitMs = 1000

/**
 * Sends DISCOVER as a machine does, but never REQUEST.
 *
 * @param mac the hardware address of the interface: a server with an allow list may know it, and no
 *   server keeps an address for a machine that does not exist
 * @returns the address of the first server that offers an address
 */
export async function findOtherServer(
  device: string,
  mac: string,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const transaction = randomInt(2 ** 32)
  const found = Promise.withResolvers<string>()
  const socket = await openDeviceSocket({
    name: 'The search for other DHCP servers',
    device,
    address: anyAddress,
    port: 68,
    // The DHCP client of this machine may use the port too.
    shared: true,
    onMessage(bytes, sender) {
      const offer = decodeOrNothing(bytes)
      const isOffer =
        offer?.operation === 'reply' &&
        offer.transaction === transaction &&
        messageTypeOf(offer) === messageType.offer
      // A proxyDHCP server gives no address.
      if (!isOffer || offer.yourAddress === anyAddress) return
      found.resolve(addressIn(offer, option.serverId) ?? sender.address)
    },
    onError: () => {},
  })
  try {
    for (let count = 0; count < tries; count++) {
      socket.send(discover(mac, transaction), { address: '255.255.255.255', port: 67 })
      const server = await Promise.race([
        found.promise,
        sleep(waitMs, undefined, signal && { signal }),
      ])
      if (server !== undefined) return server
    }
    return undefined
  } finally {
    await socket.close()
  }
}

function discover(mac: string, transaction: number): Buffer {
  return encodePacket({
    operation: 'request',
    hardwareType: 1,
    hardwareAddress: Buffer.from(mac.replaceAll(':', ''), 'hex'),
    hops: 0,
    transaction,
    seconds: 0,
    broadcast: true,
    clientAddress: anyAddress,
    yourAddress: anyAddress,
    nextServer: anyAddress,
    relay: anyAddress,
    serverName: '',
    file: '',
    options: new Map([[option.messageType, byteValue(messageType.discover)]]),
  })
}

function decodeOrNothing(bytes: Buffer) {
  try {
    return decodePacket(bytes)
  } catch (error) {
    if (error instanceof DhcpPacketError) return undefined
    throw error
  }
}
