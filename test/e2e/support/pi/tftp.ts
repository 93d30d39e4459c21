// A TFTP client that behaves like the Raspberry Pi's loaders.
//
// RFC 1350, RFC 2347 (options), RFC 2348 (blksize), RFC 2349 (tsize)

import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'

export type TftpRequest = {
  server: string
  path: string
  /** Undefined: a request without options; then blocks have 512 bytes. */
  blockSize: number | undefined
  /** The last block number of this client. */
  lastBlock?: number | undefined
}

export type Fetched = { bytes: Buffer; blocks: number; isCut: boolean }

const operation = { read: 1, data: 3, acknowledge: 4, error: 5, accept: 6 } as const
const retrySeconds = 2
const maxTries = 5

/** Whether the server has the file: the client ends the transfer after its beginning. */
export async function probe(request: TftpRequest): Promise<boolean> {
  await using transfer = await begin(request)
  if (transfer.first === undefined) return false
  transfer.send(errorPacket(0, 'Early terminate'))
  return true
}

/** The file, or undefined if the server does not have it. */
export async function fetch(request: TftpRequest): Promise<Fetched | undefined> {
  await using transfer = await begin(request)
  let packet = transfer.first
  if (packet === undefined) return undefined
  let size = 512
  if (packet.readUInt16BE(0) === operation.accept) {
    size = Number(acceptedOptions(packet).get('blksize') ?? size)
    packet = await transfer.exchange(acknowledgement(0), (next) => isData(next, 1))
  }
  const parts: Buffer[] = []
  for (let block = 1; ; block++) {
    const data = packet.subarray(4)
    parts.push(data)
    const isCut = block === request.lastBlock
    if (data.length < size || isCut) {
      transfer.send(acknowledgement(block))
      return { bytes: Buffer.concat(parts), blocks: block, isCut: isCut && data.length === size }
    }
    packet = await transfer.exchange(acknowledgement(block), (next) => isData(next, block + 1))
  }
}

type Transfer = {
  /** The server's answer to the request; undefined: there is no such file. */
  first: Buffer | undefined
  send: (packet: Buffer) => void
  /** Sends a packet, repeatedly if necessary, until the right answer comes. */
  exchange: (packet: Buffer, isAnswer: (packet: Buffer) => boolean) => Promise<Buffer>
  [Symbol.asyncDispose]: () => Promise<void>
}

async function begin({ server, path, blockSize }: TftpRequest): Promise<Transfer> {
  const socket = createSocket('udp4')
  socket.bind()
  await once(socket, 'listening')
  let port = 69
  const send = (packet: Buffer) => socket.send(packet, port, server)

  async function exchange(packet: Buffer, isAnswer: (packet: Buffer) => boolean): Promise<Buffer> {
    for (let tries = 0; tries < maxTries; tries++) {
      send(packet)
      const answer = await receive(socket, (message, from) => {
        // The server continues from another port than 69.
        if (port !== 69 && from !== port) return false
        if (!isAnswer(message) && message.readUInt16BE(0) !== operation.error) return false
        port = from
        return true
      })
      if (answer) return answer
    }
    throw new Error(`The TFTP server ${server} does not answer any more: ${path}`)
  }

  const options = blockSize === undefined ? [] : ['tsize', '0', 'blksize', String(blockSize)]
  const strings = [path, 'octet', ...options].map((text) => `${text}\0`).join('')
  const request = Buffer.concat([Buffer.from([0, operation.read]), Buffer.from(strings)])
  const answer = await exchange(request, (packet) => isAccept(packet) || isData(packet, 1))
  const isRefused = answer.readUInt16BE(0) === operation.error
  return {
    first: isRefused ? undefined : answer,
    send,
    async exchange(packet, isAnswer) {
      const next = await exchange(packet, isAnswer)
      if (next.readUInt16BE(0) !== operation.error) return next
      throw new Error(`The TFTP server broke off ${path}: ${next.toString('latin1', 4)}`)
    },
    async [Symbol.asyncDispose]() {
      await new Promise<void>((resolve) => {
        socket.close(resolve)
      })
    },
  }
}

async function receive(
  socket: Socket,
  isWanted: (message: Buffer, port: number) => boolean,
): Promise<Buffer | undefined> {
  const { promise, resolve } = Promise.withResolvers<Buffer | undefined>()
  const timer = setTimeout(() => resolve(undefined), retrySeconds * 1000)
  const listener = (message: Buffer, { port }: { port: number }) => {
    if (message.length >= 4 && isWanted(message, port)) resolve(message)
  }
  socket.on('message', listener)
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    socket.off('message', listener)
  }
}

function isAccept(packet: Buffer): boolean {
  return packet.readUInt16BE(0) === operation.accept
}

function isData(packet: Buffer, block: number): boolean {
  const isExpected = packet.readUInt16BE(2) === (block & 0xffff)
  return packet.readUInt16BE(0) === operation.data && isExpected
}

function acceptedOptions(packet: Buffer): Map<string, string> {
  const words = packet.toString('latin1', 2).split('\0')
  const options = new Map<string, string>()
  for (let index = 0; index + 1 < words.length; index += 2) {
    options.set((words[index] ?? '').toLowerCase(), words[index + 1] ?? '')
  }
  return options
}

function acknowledgement(block: number): Buffer {
  const packet = Buffer.alloc(4)
  packet.writeUInt16BE(operation.acknowledge, 0)
  packet.writeUInt16BE(block & 0xffff, 2)
  return packet
}

function errorPacket(code: number, text: string): Buffer {
  return Buffer.concat([Buffer.from([0, operation.error, 0, code]), Buffer.from(`${text}\0`)])
}
