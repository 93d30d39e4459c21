/** Finds out which other DHCP servers answer on a network, and what they tell machines to boot. */
import { randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

import { openDeviceSocket } from './device-socket.ts'
import { addressIn, byteValue, messageType, messageTypeOf, option } from './options.ts'
import {
  anyAddress,
  decodePacket,
  DhcpPacketError,
  encodePacket,
  type DhcpPacket,
} from './packet.ts'

/** An offer of a server. */
export interface Offer {
  /** The address of the server. */
  server: string
  packet: DhcpPacket
}

/** Whether the server gives an address; a proxyDHCP server gives none. */
export function givesAddress({ packet }: Offer): boolean {
  return packet.yourAddress !== anyAddress
}

const tries = 3
/**
 * Servers look whether an address is in use before they offer it: dnsmasq waits 3 s for an answer to its
 * ping, and hears nothing else meanwhile.
 */
const listenedSeconds = 5

/** @returns what `found` resolves to, or undefined if all seconds have passed */
async function askAndListen<T>(
  ask: () => void,
  found: Promise<T> | undefined,
  signal: AbortSignal | undefined,
): Promise<T | undefined> {
  for (let second = 0; second < listenedSeconds; second++) {
    if (second < tries) ask()
    const passed = sleep(1000, undefined, signal && { signal })
    const result = await (found ? Promise.race([found, passed]) : passed)
    if (result !== undefined) return result
  }
  return undefined
}

/**
 * Sends DISCOVER as a machine does, but never REQUEST, and listens for five seconds.
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
  const found = Promise.withResolvers<string>()
  await using search = await openSearch(device, mac, (offer) => {
    if (givesAddress(offer)) found.resolve(offer.server)
  })
  return await askAndListen(() => search.discover(new Map()), found.promise, signal)
}

/**
 * Collects all offers of five seconds, as `findOtherServer` does.
 *
 * @param asks the options of each kind of machine that is asked for
 * @returns for each of `asks`, the last offer of each server
 */
export async function collectOffers(
  device: string,
  mac: string,
  asks: readonly ReadonlyMap<number, Buffer>[],
  signal: AbortSignal | undefined,
): Promise<Offer[][]> {
  const offers = asks.map(() => new Map<string, Offer>())
  const asked = new Map<number, Map<string, Offer>>()
  await using search = await openSearch(device, mac, (offer) => {
    // One server may give addresses and be a proxy in two packets.
    const key = `${offer.server} ${givesAddress(offer)}`
    asked.get(offer.packet.transaction)?.set(key, offer)
  })
  const ask = () => {
    for (const [index, options] of asks.entries()) {
      const kept = offers[index]
      if (kept) asked.set(search.discover(options), kept)
    }
  }
  await askAndListen(ask, undefined, signal)
  return offers.map((each) => [...each.values()])
}

interface Search extends AsyncDisposable {
  /** @returns the number of the transaction */
  discover: (options: ReadonlyMap<number, Buffer>) => number
}

async function openSearch(
  device: string,
  mac: string,
  onOffer: (offer: Offer) => void,
): Promise<Search> {
  const transactions = new Set<number>()
  const socket = await openDeviceSocket({
    name: 'The search for other DHCP servers',
    device,
    address: anyAddress,
    port: 68,
    // The DHCP client of this machine may use the port too.
    shared: true,
    onMessage(bytes, sender) {
      const packet = decodeOrNothing(bytes)
      const isOffer =
        packet?.operation === 'reply' &&
        transactions.has(packet.transaction) &&
        messageTypeOf(packet) === messageType.offer
      if (!isOffer) return
      onOffer({ server: addressIn(packet, option.serverId) ?? sender.address, packet })
    },
    onError: () => {},
  })
  return {
    discover(options) {
      const transaction = randomInt(2 ** 32)
      transactions.add(transaction)
      const packet = discover(mac, transaction, options)
      socket.send(packet, { address: '255.255.255.255', port: 67 })
      return transaction
    },
    [Symbol.asyncDispose]: () => socket.close(),
  }
}

function discover(mac: string, transaction: number, options: ReadonlyMap<number, Buffer>): Buffer {
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
    options: new Map([[option.messageType, byteValue(messageType.discover)], ...options]),
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
