/** The packets of TFTP. [RFC 1350 §5, RFC 2347] */

export type Packet =
  | { kind: 'read' | 'write'; request: FileRequest }
  | { kind: 'data'; block: number; data: Buffer }
  | { kind: 'ack'; block: number }
  | { kind: 'error'; code: number; message: string }
  | { kind: 'oack'; options: Option[] }

export interface FileRequest {
  file: string
  /** In lower case. */
  mode: string
  /** In the order in which they came. */
  options: Option[]
}

export interface Option {
  /** As the client wrote it; the case of letters does not matter. */
  name: string
  value: string
}

/** [RFC 1350, appendix; RFC 2347] */
export const errorCode = {
  undefined: 0,
  notFound: 1,
  accessViolation: 2,
  illegalOperation: 4,
  unknownTransfer: 5,
  optionRefused: 8,
} as const

export const headerBytes = 4
const opcodes = { read: 1, write: 2, data: 3, ack: 4, error: 5, oack: 6 } as const
/** [RFC 2347: the maximum size of a request packet is 512 octets.] */
const maxRequestBytes = 512

/** @returns undefined if the bytes are not a packet of TFTP */
export function decode(bytes: Buffer): Packet | undefined {
  if (bytes.length < 2) return undefined
  const opcode = bytes.readUInt16BE(0)
  switch (opcode) {
    case opcodes.ack: {
      const block = acknowledgedBlock(bytes)
      return block === undefined ? undefined : { kind: 'ack', block }
    }
    case opcodes.data:
      if (bytes.length < headerBytes) return undefined
      return { kind: 'data', block: bytes.readUInt16BE(2), data: bytes.subarray(headerBytes) }
    case opcodes.read:
    case opcodes.write: {
      const request = decodeRequest(bytes)
      return request && { kind: opcode === opcodes.read ? 'read' : 'write', request }
    }
    case opcodes.error: {
      if (bytes.length < 4) return undefined
      // Some clients leave out the last zero.
      const end = bytes.indexOf(0, 4)
      const message = bytes.toString('utf8', 4, end === -1 ? bytes.length : end)
      return { kind: 'error', code: bytes.readUInt16BE(2), message }
    }
    case opcodes.oack:
      return { kind: 'oack', options: pairs(strings(bytes)) }
    default:
      return undefined
  }
}

/**
 * The block that an ACK acknowledges. Nearly all packets are acknowledgments, so this makes no
 * object.
 *
 * @returns undefined if the bytes are another packet, or not a packet of TFTP
 */
export function acknowledgedBlock(bytes: Buffer): number | undefined {
  if (bytes.length < 4 || bytes[0] !== 0 || bytes[1] !== opcodes.ack) return undefined
  return bytes.readUInt16BE(2)
}

export function isReadRequest(bytes: Buffer): boolean {
  return decode(bytes)?.kind === 'read'
}

function decodeRequest(bytes: Buffer): FileRequest | undefined {
  if (bytes.length > maxRequestBytes) return undefined
  const [file, mode, ...options] = strings(bytes)
  if (file === undefined || mode === undefined) return undefined
  return { file, mode: mode.toLowerCase(), options: pairs(options) }
}

const maxShownBytes = 80

/**
 * The first text behind the opcode of bytes that are not a packet of TFTP. The text may be a file
 * name; it is only shown to people.
 */
export function textIn(bytes: Buffer): string {
  const zero = bytes.indexOf(0, 2)
  const end = Math.min(zero < 0 ? bytes.length : zero, 2 + maxShownBytes)
  return bytes.toString('latin1', Math.min(2, end), end)
}

/** The texts that end with a zero. Bytes after the last zero are padding of old boot ROMs. */
function strings(bytes: Buffer): string[] {
  const found: string[] = []
  let start = 2
  for (let end = bytes.indexOf(0, start); end !== -1; end = bytes.indexOf(0, start)) {
    found.push(bytes.toString('utf8', start, end))
    start = end + 1
  }
  return found
}

function pairs(found: readonly string[]): Option[] {
  const options: Option[] = []
  for (let index = 0; index + 1 < found.length; index += 2) {
    options.push({ name: found[index] ?? '', value: found[index + 1] ?? '' })
  }
  return options
}

export function encode(packet: Packet): Buffer {
  const opcode = opcodes[packet.kind]
  switch (packet.kind) {
    case 'read':
    case 'write': {
      const { file, mode, options } = packet.request
      return terminated(Buffer.from([0, opcode]), [file, mode, ...flat(options)])
    }
    case 'oack':
      return terminated(Buffer.from([0, opcode]), flat(packet.options))
    case 'error':
      return terminated(header(opcode, packet.code), [packet.message])
    case 'ack':
      return header(opcode, packet.block)
    case 'data':
      return Buffer.concat([header(opcode, packet.block), packet.data])
  }
}

/** Writes the first four bytes of a DATA packet; the data are in the buffer already. */
export function writeDataHeader(packet: Buffer, block: number): void {
  packet.writeUInt16BE(opcodes.data, 0)
  packet.writeUInt16BE(block & 0xffff, 2)
}

function header(opcode: number, word: number): Buffer {
  const bytes = Buffer.alloc(headerBytes)
  bytes.writeUInt16BE(opcode, 0)
  bytes.writeUInt16BE(word, 2)
  return bytes
}

function flat(options: readonly Option[]): string[] {
  return options.flatMap(({ name, value }) => [name, value])
}

function terminated(start: Buffer, texts: readonly string[]): Buffer {
  return Buffer.concat([start, ...texts.map((text) => Buffer.from(`${text}\0`))])
}
