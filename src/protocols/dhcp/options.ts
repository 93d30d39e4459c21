/** The DHCP options that matter for booting, and their values. */
import { formatAddress, parseAddress } from '../../ipv4.ts'
import type { DhcpPacket } from './packet.ts'

/** https://www.iana.org/assignments/bootp-dhcp-parameters/ */
export const option = {
  netmask: 1,
  routers: 3,
  nameServers: 6,
  hostName: 12,
  domain: 15,
  /** PXE's options. */
  vendorOptions: 43,
  requestedAddress: 50,
  leaseSeconds: 51,
  messageType: 53,
  serverId: 54,
  /** The options that the client asks for. */
  requestList: 55,
  /** Why the server refuses. */
  message: 56,
  maxMessageBytes: 57,
  renewalSeconds: 58,
  rebindingSeconds: 59,
  vendorClass: 60,
  clientId: 61,
  tftpServer: 66,
  bootFile: 67,
  userClass: 77,
  relayInformation: 82,
  architecture: 93,
  /** The version of PXE's network driver. */
  networkInterface: 94,
  /** The machine's UUID. */
  guid: 97,
  /** iPXE's options. */
  ipxe: 175,
} as const

/** [RFC 2132 §9.6] */
export const messageType = {
  discover: 1,
  offer: 2,
  request: 3,
  decline: 4,
  acknowledge: 5,
  negative: 6,
  release: 7,
  inform: 8,
} as const

export function messageTypeOf({ options }: DhcpPacket): number | undefined {
  return options.get(option.messageType)?.[0]
}

export function addressIn({ options }: DhcpPacket, code: number): string | undefined {
  const value = options.get(code)
  return value?.length === 4 ? formatAddress(value.readUInt32BE(0)) : undefined
}

export function secondsIn({ options }: DhcpPacket, code: number): number | undefined {
  const value = options.get(code)
  return value?.length === 4 ? value.readUInt32BE(0) : undefined
}

/** Text that is safe to print: without control characters. */
export function textOf(value: Buffer): string {
  return value
    .toString('latin1')
    .replace(/\0+$/, '')
    .replaceAll(/[^\x20-\x7e]/g, '?')
}

/** [RFC 4578 §2.1] */
export function architecturesIn({ options }: DhcpPacket): number[] {
  const value = options.get(option.architecture) ?? Buffer.alloc(0)
  const count = Math.floor(value.length / 2)
  return Array.from({ length: count }, (_, index) => value.readUInt16BE(2 * index))
}

/** Texts, each after its length [RFC 3004 §4]. iPXE and others send one text without a length. */
export function userClassesIn({ options }: DhcpPacket): string[] {
  const value = options.get(option.userClass)
  if (value === undefined) return []
  const classes: string[] = []
  for (let at = 0; at < value.length;) {
    const length = value.readUInt8(at++)
    if (length === 0 || at + length > value.length) return [textOf(value)]
    classes.push(textOf(value.subarray(at, at + length)))
    at += length
  }
  return classes
}

/** @param options each with at most 255 bytes */
export function encloseOptions(options: readonly (readonly [number, Buffer])[]): Buffer {
  const parts = options.map(([code, value]) =>
    Buffer.concat([Buffer.from([code, value.length]), value]),
  )
  return Buffer.concat([...parts, Buffer.from([255])])
}

export function addressValue(address: string): Buffer {
  return numberValue(parseAddress(address))
}

export function numberValue(number: number): Buffer {
  const value = Buffer.alloc(4)
  value.writeUInt32BE(number)
  return value
}

export function byteValue(byte: number): Buffer {
  return Buffer.from([byte])
}
