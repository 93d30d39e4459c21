/**
 * The first packet that a machine sends to a service, as far as it is known before. A firewall's condition
 * about something that is not known may hold or not.
 */
import { isIPv4 } from 'node:net'

import { parseAddress } from '../../ipv4.ts'
import type { ServedInterface } from '../../protocols/interfaces.ts'
import type { Service } from '../services.ts'

/** Whole numbers from `first` to `last`; addresses as numbers. */
export interface Range {
  first: number
  last: number
}

export interface Packet {
  device: string
  protocol: 'tcp' | 'udp'
  source: { addresses: Range; ports: Range }
  destination: { addresses: Range; ports: Range }
  isBroadcast: boolean
}

export type Match = 'yes' | 'no' | 'maybe'

const allPorts = { first: 1, last: 65_535 }
const allAddresses = { first: 0, last: 2 ** 32 - 1 }
const [dhcpPort, dhcpClientPort] = [67, 68]

export function only(value: number): Range {
  return { first: value, last: value }
}

export function firstPacket(
  { transport, port }: Pick<Service, 'transport' | 'port'>,
  { name, address, network }: ServedInterface,
): Packet {
  const base = { device: name, protocol: transport }
  if (port === dhcpPort) {
    return {
      ...base,
      source: { addresses: only(0), ports: only(dhcpClientPort) },
      destination: { addresses: only(2 ** 32 - 1), ports: only(port) },
      isBroadcast: true,
    }
  }
  const addresses = network ? prefixRange(network.address, network.prefix) : allAddresses
  return {
    ...base,
    source: { addresses, ports: allPorts },
    destination: { addresses: only(parseAddress(address)), ports: only(port) },
    isBroadcast: false,
  }
}

export function prefixRange(address: string, prefix: number): Range {
  const size = 2 ** (32 - prefix)
  const first = Math.floor(parseAddress(address) / size) * size
  return { first, last: first + size - 1 }
}

/** @param text as in `10.0.0.0/8` or `10.0.0.1`; a mask may be long @returns undefined if it is neither */
export function parseNet(text: string): Range | undefined {
  const [address = '', mask = '32', ...more] = text.split('/')
  const prefix = isIPv4(mask) ? prefixOf(mask) : /^\d{1,2}$/.test(mask) ? Number(mask) : undefined
  if (!isIPv4(address) || prefix === undefined || prefix > 32 || more.length > 0) return undefined
  return prefixRange(address, prefix)
}

function prefixOf(mask: string): number | undefined {
  const ones = parseAddress(mask).toString(2).padStart(32, '0')
  return /^1*0*$/.test(ones) ? ones.replaceAll('0', '').length : undefined
}

/** Whether the packet's value is in `wanted`. We know only that it is one of `values`. */
export function isWithin(values: Range, wanted: Range): Match {
  if (wanted.first <= values.first && values.last <= wanted.last) return 'yes'
  return values.last < wanted.first || wanted.last < values.first ? 'no' : 'maybe'
}

export function isSo(condition: boolean): Match {
  return condition ? 'yes' : 'no'
}

export function not(match: Match): Match {
  return ({ yes: 'no', no: 'yes', maybe: 'maybe' } as const)[match]
}

export function all(matches: readonly Match[]): Match {
  if (matches.includes('no')) return 'no'
  return matches.includes('maybe') ? 'maybe' : 'yes'
}

export function any(matches: readonly Match[]): Match {
  return not(all(matches.map(not)))
}
