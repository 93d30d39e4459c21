/**
 * The DHCP packet: the header of BOOTP, then options.
 *
 * [RFC 2131 §2], [RFC 2132 §9.3] (options in the fields `file` and `sname`), [RFC 3396] (long
 * options)
 */
import { formatAddress, parseAddress } from '../../ipv4.ts'

export interface DhcpPacket {
  operation: 'request' | 'reply'
  /** As ARP knows it; Ethernet is 1. */
  hardwareType: number
  /** At most 16 bytes. */
  hardwareAddress: Buffer
  hops: number
  transaction: number
  /** Since the client began. */
  seconds: number
  /**
   * Whether the client needs a broadcast, because it cannot receive unicast before it has an
   * address.
   */
  broadcast: boolean
  /** `ciaddr`: the address that the client has already. */
  clientAddress: string
  /** `yiaddr`: the address that the client is given. */
  yourAddress: string
  /** `siaddr`: the server that has the boot file. */
  nextServer: string
  /** `giaddr` */
  relay: string
  /** `sname`: at most 64 bytes, in Latin-1. */
  serverName: string
  /** At most 128 bytes, in Latin-1. */
  file: string
  /** By code, in the order in which they came; the parts of a long option are joined. */
  options: ReadonlyMap<number, Buffer>
}

/** A packet that breaks the format, or that cannot be written. */
export class DhcpPacketError extends Error {}

export const anyAddress = '0.0.0.0'

const [pad, end, overload] = [0, 255, 52]
const magicCookie = Buffer.from([99, 130, 83, 99])
/** The header, with the cookie. */
const headerBytes = 240
/** Every client accepts 576 bytes with the headers of IP and UDP. [RFC 2131 §2] */
export const commonBytes = 548
/** Relays drop shorter packets. [RFC 1542 §2.1] */
const leastBytes = 300

const fields = {
  serverName: { at: 44, length: 64, bit: 2 },
  file: { at: 108, length: 128, bit: 1 },
} as const

/** @throws `DhcpPacketError` */
export function decodePacket(packet: Uint8Array): DhcpPacket {
  const bytes = Buffer.from(packet.buffer, packet.byteOffset, packet.length)
  if (bytes.length < headerBytes) {
    throw new DhcpPacketError(`the packet has only ${bytes.length} bytes`)
  }
  const operation = bytes.readUInt8(0)
  if (operation !== 1 && operation !== 2) {
    throw new DhcpPacketError(`there is no operation ${operation}`)
  }
  const hardwareLength = bytes.readUInt8(2)
  if (hardwareLength > 16) {
    throw new DhcpPacketError(`the hardware address has ${hardwareLength} bytes, more than 16`)
  }
  if (!bytes.subarray(236, headerBytes).equals(magicCookie)) {
    throw new DhcpPacketError('the magic cookie is missing')
  }

  const options = new Map<number, Buffer>()
  readOptions(bytes.subarray(headerBytes), options)
  const overloaded = options.get(overload)?.[0] ?? 0
  options.delete(overload)
  const readField = ({ at, length, bit }: (typeof fields)['file' | 'serverName']): string => {
    const field = bytes.subarray(at, at + length)
    if ((overloaded & bit) === 0) return untilZero(field)
    readOptions(field, options)
    return ''
  }
  // Parts of one option are joined in this order. [RFC 3396 §5]
  const file = readField(fields.file)
  const serverName = readField(fields.serverName)

  const addressAt = (at: number) => formatAddress(bytes.readUInt32BE(at))
  return {
    operation: operation === 1 ? 'request' : 'reply',
    hardwareType: bytes.readUInt8(1),
    hardwareAddress: Buffer.from(bytes.subarray(28, 28 + hardwareLength)),
    hops: bytes.readUInt8(3),
    transaction: bytes.readUInt32BE(4),
    seconds: bytes.readUInt16BE(8),
    broadcast: (bytes.readUInt16BE(10) & 0x8000) !== 0,
    clientAddress: addressAt(12),
    yourAddress: addressAt(16),
    nextServer: addressAt(20),
    relay: addressAt(24),
    serverName,
    file,
    options,
  }
}

/** Adds to `options`: parts of one option are joined. [RFC 3396 §7] */
function readOptions(bytes: Buffer, options: Map<number, Buffer>): void {
  for (let at = 0; at < bytes.length;) {
    const code = bytes.readUInt8(at++)
    if (code === pad) continue
    if (code === end) return
    const length = bytes[at++]
    if (length === undefined || at + length > bytes.length) {
      throw new DhcpPacketError(`option ${code} is cut off`)
    }
    const value = bytes.subarray(at, at + length)
    const before = options.get(code)
    options.set(code, before ? Buffer.concat([before, value]) : Buffer.from(value))
    at += length
  }
}

function untilZero(field: Buffer): string {
  const zero = field.indexOf(0)
  return field.toString('latin1', 0, zero < 0 ? field.length : zero)
}

/**
 * @param maxBytes the most that the client accepts; options that do not fit go into `file` and
 *   `sname`, if these are empty
 * @throws `DhcpPacketError` if there is not enough room for the options
 */
export function encodePacket(packet: DhcpPacket, maxBytes: number = commonBytes): Buffer {
  const header = Buffer.alloc(headerBytes)
  header.set([packet.operation === 'request' ? 1 : 2, packet.hardwareType])
  header.set([packet.hardwareAddress.length, packet.hops], 2)
  header.writeUInt32BE(packet.transaction, 4)
  header.writeUInt16BE(packet.seconds, 8)
  header.writeUInt16BE(packet.broadcast ? 0x8000 : 0, 10)
  const addresses = [
    packet.clientAddress,
    packet.yourAddress,
    packet.nextServer,
    packet.relay,
  ] as const
  addresses.forEach((address, index) => header.writeUInt32BE(parseAddress(address), 12 + 4 * index))
  header.set(packet.hardwareAddress, 28)
  header.set(magicCookie, 236)
  for (const name of ['file', 'serverName'] as const) {
    const { at, length } = fields[name]
    const text = Buffer.from(packet[name], 'latin1')
    if (text.length > length) throw new DhcpPacketError(`${name} has more than ${length} bytes`)
    header.set(text, at)
  }

  const parts = partsOf(packet.options)
  const options =
    fill(parts, maxBytes - headerBytes) ?? spread(parts, maxBytes - headerBytes, packet, header)
  const bytes = Buffer.concat([header, options])
  const padding = Math.max(0, Math.min(leastBytes, maxBytes) - bytes.length)
  return Buffer.concat([bytes, Buffer.alloc(padding)])
}

/** The bytes of each option, in parts of at most 255 bytes of value. */
function partsOf(options: ReadonlyMap<number, Buffer>): Buffer[] {
  return [...options].flatMap(([code, value]) => {
    const parts: Buffer[] = []
    for (let at = 0; at === 0 || at < value.length; at += 255) {
      const part = value.subarray(at, at + 255)
      parts.push(Buffer.concat([Buffer.from([code, part.length]), part]))
    }
    return parts
  })
}

/** @returns all parts and the end option; undefined if there is not enough room */
function fill(parts: readonly Buffer[], room: number): Buffer | undefined {
  const bytes = Buffer.concat([...parts, Buffer.from([end])])
  return bytes.length <= room ? bytes : undefined
}

/**
 * Writes the options that do not fit behind the header into the fields `file` and `sname`.
 *
 * @returns the bytes behind the header
 */
function spread(
  parts: readonly Buffer[],
  room: number,
  { file, serverName }: DhcpPacket,
  header: Buffer,
): Buffer {
  const rest = [...parts]
  const take = (space: number): Buffer[] => {
    const taken: Buffer[] = []
    for (let left = space - 1; rest[0] !== undefined && rest[0].length <= left;) {
      left -= rest[0].length
      taken.push(...rest.splice(0, 1))
    }
    return taken
  }
  const marker = Buffer.from([overload, 1, 0])
  const behind = take(room - marker.length)
  for (const [name, text] of [
    ['file', file],
    ['serverName', serverName],
  ] as const) {
    const { at, length, bit } = fields[name]
    if (text !== '' || rest.length === 0) continue
    header.set(Buffer.concat([...take(length), Buffer.from([end])]), at)
    marker[2] = (marker[2] ?? 0) | bit
  }
  if (rest.length > 0) throw new DhcpPacketError('the options do not fit into the packet')
  return Buffer.concat([...behind, marker, Buffer.from([end])])
}
