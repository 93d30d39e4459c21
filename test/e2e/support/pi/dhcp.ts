// The DHCP client of the Raspberry Pi's loaders.
//
// RFC 2131, RFC 2132, RFC 4578 (options 93, 94 and 97)
// Intel's PXE specification 2.1, section 2.2 (option 43)

import { randomBytes } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Board, Model } from './models.ts'

export type Lease = {
  address: string
  netmask: string
  /** The TFTP server. */
  server: string
}

type Offer = {
  /** 0.0.0.0 if the offer is of a proxyDHCP server. */
  address: string
  nextServer: string
  options: ReadonlyMap<number, Buffer>
}

const option = {
  netmask: 1,
  vendor: 43,
  requestedAddress: 50,
  messageType: 53,
  serverId: 54,
  parameterRequests: 55,
  vendorClass: 60,
  tftpServer: 66,
  architecture: 93,
  networkInterface: 94,
  guid: 97,
} as const
const message = { discover: 1, offer: 2, request: 3, acknowledgement: 5 } as const
const magicCookie = Buffer.from([99, 130, 83, 99])
const optionsAt = 240
const anyAddress = '0.0.0.0'

/** The loaders try five times, five seconds apart. */
const [maxTries, retrySeconds] = [5, 5]

/**
 * Gets an address, and a TFTP server from the server that offers a menu for the Raspberry Pi.
 *
 * @param say prints the steps and the answers
 */
export async function getLease(
  model: Model,
  board: Board,
  say: (text: string) => void,
): Promise<Lease> {
  const socket = createSocket('udp4')
  socket.bind(68)
  await once(socket, 'listening')
  try {
    socket.setBroadcast(true)
    const transaction = randomBytes(4)
    const discover = request(model, board, transaction, message.discover, [])
    const offers = await ask(socket, discover, transaction, message.offer, (all) => {
      return pickServer(model, all) !== undefined && all.some(hasAddress)
    })
    for (const offer of offers) say(`offer ${describeOffer(offer)}`)
    const server = pickServer(model, offers)
    const leased = offers.find(hasAddress)
    if (leased === undefined) throw new Error('No DHCP server offers an address.')
    if (server === undefined) {
      throw new Error(`No DHCP server offers the menu "${model.menu}" in option 43.`)
    }
    if (model.requestsAddress) {
      const wanted: [number, Buffer][] = [
        [option.requestedAddress, parseAddress(leased.address)],
        [option.serverId, leased.options.get(option.serverId) ?? Buffer.alloc(4)],
      ]
      const packet = request(model, board, transaction, message.request, wanted)
      await ask(socket, packet, transaction, message.acknowledgement, (all) => all.length > 0)
    }
    const netmask = formatAddress(leased.options.get(option.netmask)) ?? '255.255.255.0'
    return { address: leased.address, netmask, server }
  } finally {
    socket.close()
  }
}

function hasAddress({ address }: Offer): boolean {
  return address !== anyAddress
}

/** From the offer with the menu: option 66, else the next server, else the DHCP server itself. */
function pickServer(model: Model, offers: readonly Offer[]): string | undefined {
  const offer = offers.find(({ options }) => menuOf(options)?.includes(model.menu))
  if (!offer) return undefined
  const named = offer.options.get(option.tftpServer)?.toString('latin1').replace(/\0+$/, '')
  if (named !== undefined && /^\d+\.\d+\.\d+\.\d+$/.test(named)) return named
  if (offer.nextServer !== anyAddress) return offer.nextServer
  return formatAddress(offer.options.get(option.serverId))
}

/** The texts of PXE's boot menu: option 9 of the vendor's options. */
function menuOf(options: ReadonlyMap<number, Buffer>): string | undefined {
  const menu = readOptions(options.get(option.vendor) ?? Buffer.alloc(0)).get(9)
  if (!menu) return undefined
  const texts: string[] = []
  for (let at = 0; at + 3 <= menu.length;) {
    const length = menu.readUInt8(at + 2)
    texts.push(menu.toString('latin1', at + 3, at + 3 + length))
    at += 3 + length
  }
  return texts.join('\n')
}

/** Sends a packet, repeatedly if necessary, until there are enough answers. */
async function ask(
  socket: Socket,
  packet: Buffer,
  transaction: Buffer,
  type: number,
  isEnough: (answers: readonly Offer[]) => boolean,
): Promise<Offer[]> {
  const answers: Offer[] = []
  const enough = Promise.withResolvers<void>()
  const listener = (received: Buffer) => {
    if (received.length < optionsAt || !received.subarray(4, 8).equals(transaction)) return
    const options = readOptions(received.subarray(optionsAt))
    if (options.get(option.messageType)?.readUInt8(0) !== type) return
    const address = formatAddress(received.subarray(16, 20)) ?? anyAddress
    const nextServer = formatAddress(received.subarray(20, 24)) ?? anyAddress
    answers.push({ address, nextServer, options })
    if (isEnough(answers)) enough.resolve()
  }
  socket.on('message', listener)
  for (let tries = 0; tries < maxTries && !isEnough(answers); tries++) {
    socket.send(packet, 67, '255.255.255.255')
    await Promise.race([enough.promise, sleep(retrySeconds * 1000, undefined, { ref: false })])
  }
  socket.off('message', listener)
  return answers
}

function request(
  model: Model,
  board: Board,
  transaction: Buffer,
  type: number,
  more: readonly [number, Buffer][],
): Buffer {
  const packet = Buffer.alloc(optionsAt)
  packet.set([1, 1, 6, 0], 0)
  packet.set(transaction, 4)
  packet.set(Buffer.from(board.mac.replaceAll(':', ''), 'hex'), 28)
  packet.set(magicCookie, 236)
  const options: [number, Buffer][] = [
    [option.messageType, Buffer.from([type])],
    ...more,
    [option.parameterRequests, Buffer.from(model.parameterRequests)],
    // Every model calls itself a BIOS; UNDI 2.1.
    [option.architecture, Buffer.from([0, 0])],
    [option.networkInterface, Buffer.from([1, 2, 1])],
    [option.guid, Buffer.concat([Buffer.from([0]), model.guid(board)])],
    [option.vendorClass, Buffer.from('PXEClient:Arch:00000:UNDI:002001')],
  ]
  const encoded = options.map(([code, value]) =>
    Buffer.concat([Buffer.from([code, value.length]), value]),
  )
  return Buffer.concat([packet, ...encoded, Buffer.from([255])])
}

function readOptions(bytes: Buffer): Map<number, Buffer> {
  const options = new Map<number, Buffer>()
  for (let at = 0; at < bytes.length;) {
    const code = bytes.readUInt8(at++)
    if (code === 255 || at >= bytes.length) break
    if (code === 0) continue
    const length = bytes.readUInt8(at++)
    options.set(code, bytes.subarray(at, at + length))
    at += length
  }
  return options
}

function describeOffer({ address, nextServer, options }: Offer): string {
  const server = formatAddress(options.get(option.serverId)) ?? '?'
  const menu = JSON.stringify(menuOf(options) ?? null)
  return `from ${server}: address ${address}, next server ${nextServer}, menu ${menu}`
}

function parseAddress(text: string): Buffer {
  return Buffer.from(text.split('.').map(Number))
}

function formatAddress(bytes: Buffer | undefined): string | undefined {
  return bytes?.length === 4 ? [...bytes].join('.') : undefined
}
