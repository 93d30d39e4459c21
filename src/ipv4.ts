/** IPv4 addresses as text and as numbers; networks and ranges as people write them. */
import { isIPv4 } from 'node:net'

import { NetimageError } from './errors.ts'

export interface Network {
  address: string
  prefix: number
  netmask: string
}

export interface AddressRange {
  first: string
  last: string
}

/** @param text an IPv4 address */
export function parseAddress(text: string): number {
  return text.split('.').reduce((value, byte) => value * 256 + Number(byte), 0)
}

export function formatAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.')
}

/** @throws `NetimageError` `bad-option` */
export function parseNetwork(text: string): Network {
  const [, address = '', prefixText = ''] = /^([0-9.]+)\/(\d{1,2})$/.exec(text) ?? []
  const prefix = Number(prefixText)
  if (!isIPv4(address) || prefix < 1 || prefix > 31) {
    throw new NetimageError('bad-option', `--network: ${JSON.stringify(text)} is not a network`, {
      hint: 'Write the network as in 10.0.0.0/24.',
    })
  }
  const mask = (0xffffffff << (32 - prefix)) >>> 0
  return {
    address: formatAddress((parseAddress(address) & mask) >>> 0),
    prefix,
    netmask: formatAddress(mask),
  }
}

/** @throws `NetimageError` `bad-option` */
export function parseRange(text: string): AddressRange {
  const [first = '', last = '', ...more] = text.split('-')
  const ordered = parseAddress(first) <= parseAddress(last)
  if (isIPv4(first) && isIPv4(last) && more.length === 0 && ordered) return { first, last }
  throw new NetimageError('bad-option', `--range: ${JSON.stringify(text)} is not a range`, {
    hint: 'Write the range as in 10.0.0.100-10.0.0.199, with the lower address first.',
  })
}

export function isInRange(address: string, { first, last }: AddressRange): boolean {
  const value = parseAddress(address)
  return parseAddress(first) <= value && value <= parseAddress(last)
}

export function isInNetwork(address: string, network: Network): boolean {
  const mask = parseAddress(network.netmask)
  return (parseAddress(address) & mask) >>> 0 === parseAddress(network.address)
}
