// A DHCP client on eth0 that sends packets which no real client sends.
//
//     node dhcp-exchange-program.ts MAC DISCOVER REQUEST
//
// DISCOVER and REQUEST are JSON: options by code, with values in hex. For each packet, the program
// prints the answer of the server as one line of JSON.

import { randomInt } from 'node:crypto'
import { openDeviceSocket } from '../../../src/protocols/dhcp/device-socket.ts'
import { addressValue, messageType, option } from '../../../src/protocols/dhcp/options.ts'
import { anyAddress, decodePacket, encodePacket } from '../../../src/protocols/dhcp/packet.ts'

const [mac = '', discover = '{}', request = '{}'] = process.argv.slice(2)
const transaction = randomInt(2 ** 32)
let waiting = Promise.withResolvers<ReturnType<typeof decodePacket>>()
const socket = await openDeviceSocket({
  ...{ name: 'A client', device: 'eth0', address: anyAddress, port: 68, shared: true },
  onMessage(bytes) {
    const packet = decodePacket(bytes)
    if (packet.transaction === transaction) waiting.resolve(packet)
  },
  onError: () => {},
})

async function ask(type: number, json: string, more: readonly [number, Buffer][] = []) {
  const given = Object.entries<string>(JSON.parse(json))
  const options = given.map(([code, hex]): [number, Buffer] => [
    Number(code),
    Buffer.from(hex, 'hex'),
  ])
  const bytes = encodePacket({
    ...{ operation: 'request', hardwareType: 1, hops: 0, transaction, seconds: 0 },
    ...{ hardwareAddress: Buffer.from(mac.replaceAll(':', ''), 'hex'), broadcast: true },
    ...{ clientAddress: anyAddress, yourAddress: anyAddress, nextServer: anyAddress },
    ...{ relay: anyAddress, serverName: '', file: '' },
    options: new Map([[option.messageType, Buffer.from([type])], ...more, ...options]),
  })
  waiting = Promise.withResolvers()
  const send = () => socket.send(bytes, { address: '255.255.255.255', port: 67 })
  send()
  const again = setInterval(send, 1000)
  const reply = await waiting.promise
  clearInterval(again)
  const told = [...reply.options].map(([code, value]) => [code, value.toString('hex')])
  const { nextServer, yourAddress, file } = reply
  process.stdout.write(
    `${JSON.stringify({ nextServer, yourAddress, file, options: Object.fromEntries(told) })}\n`,
  )
  return reply
}

const offer = await ask(messageType.discover, discover)
await ask(messageType.request, request, [
  [option.requestedAddress, addressValue(offer.yourAddress)],
  [option.serverId, offer.options.get(option.serverId) ?? Buffer.alloc(0)],
])
await socket.close()
