/** The options of a rule of iptables, as `iptables-save` prints them. */
import { isIPv4 } from 'node:net'

import { parseAddress } from '../../ipv4.ts'
import {
  any,
  isSo,
  isWithin,
  only,
  parseNet,
  type Match,
  type Packet,
  type Range,
} from './packet.ts'

/** Words in quotes may contain spaces, and a backslash before a quote. */
export function splitWords(line: string): string[] {
  const words = line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)
  return [...words].map(([, quoted, plain]) => quoted?.replaceAll(/\\(.)/g, '$1') ?? plain ?? '')
}

export interface TakenOption {
  name: string
  values: string[]
  isNegated: boolean
  rest: readonly string[]
}

/** How many values follow an option whose values may look like options. */
const counts: Readonly<Record<string, number>> = { '--comment': 1, '--tcp-flags': 2, '--string': 1 }

/** @param words at least one */
export function takeOption(words: readonly string[]): TakenOption {
  const isNegated = words[0] === '!'
  const [name = '', ...behind] = isNegated ? words.slice(1) : words
  const counted = Object.hasOwn(counts, name) ? counts[name] : undefined
  const end = behind.findIndex((word) => word === '!' || word.startsWith('-'))
  const count = counted ?? (end < 0 ? behind.length : end)
  return { name, values: behind.slice(0, count), isNegated, rest: behind.slice(count) }
}

/** Whether the packet has what the option asks for; it may have what we do not know. */
export function optionMatches(name: string, values: readonly string[], packet: Packet): Match {
  const [value = ''] = values
  const { source, destination, protocol } = packet
  switch (name) {
    case '-i':
      return isSo(
        value.endsWith('+')
          ? packet.device.startsWith(value.slice(0, -1))
          : value === packet.device,
      )
    case '-p':
      return value === 'all' ? 'yes' : isProtocol(value, protocol)
    case '-s':
      return inNet(source.addresses, value)
    case '-d':
      return inNet(destination.addresses, value)
    case '--src-range':
      return inAddressRange(source.addresses, value)
    case '--dst-range':
      return inAddressRange(destination.addresses, value)
    case '--sport':
    case '--sports':
      return inPorts(source.ports, value)
    case '--dport':
    case '--dports':
      return inPorts(destination.ports, value)
    case '--ports':
      return any([inPorts(source.ports, value), inPorts(destination.ports, value)])
    case '--ctstate':
    case '--state':
      // The packet begins a connection.
      return isSo(value.split(',').includes('NEW'))
    case '--dst-type':
      return isSo(value.split(',').includes(packet.isBroadcast ? 'BROADCAST' : 'LOCAL'))
    case '--pkt-type':
      return isSo(value === (packet.isBroadcast ? 'broadcast' : 'unicast'))
    case '--tcp-flags':
      return protocol === 'tcp' ? beginsTcp(values) : 'no'
    case '-m':
      return matchesByName(value, packet)
    case '--comment':
    // `-m rpfilter` matches by itself; its caller looks for `--invert`.
    case '--invert':
    case '--validmark':
    case '--loose':
      return 'yes'
    default:
      return 'maybe'
  }
}

/** Extensions that do nothing without the options that follow them. */
const needsOptions = new Set([
  ...['tcp', 'udp', 'multiport', 'conntrack', 'state', 'comment', 'iprange', 'addrtype', 'pkttype'],
])

function matchesByName(name: string, { isBroadcast }: Packet): Match {
  if (needsOptions.has(name)) return 'yes'
  // The source has its route by the interface that the packet comes from.
  return name === 'rpfilter' && !isBroadcast ? 'yes' : 'maybe'
}

const protocolNumbers: Readonly<Record<string, string>> = { tcp: '6', udp: '17' }
const otherProtocols = new Set([
  'icmp',
  'igmp',
  'sctp',
  'dccp',
  'esp',
  'ah',
  'gre',
  'udplite',
  'vrrp',
  'ospf',
])

function isProtocol(value: string, protocol: 'tcp' | 'udp'): Match {
  if (value === protocol || value === protocolNumbers[protocol]) return 'yes'
  const isOther = value === 'tcp' || value === 'udp' || otherProtocols.has(value)
  return isOther || /^[1-9]\d*$/.test(value) ? 'no' : 'maybe'
}

function inNet(addresses: Range, text: string): Match {
  const net = parseNet(text)
  return net ? isWithin(addresses, net) : 'maybe'
}

function inAddressRange(addresses: Range, text: string): Match {
  const [first = '', last = first] = text.split('-')
  if (!isIPv4(first) || !isIPv4(last)) return 'maybe'
  return isWithin(addresses, { first: parseAddress(first), last: parseAddress(last) })
}

/** @param text as in `67,69:70` */
function inPorts(ports: Range, text: string): Match {
  return any(
    text.split(',').map((part): Match => {
      const [, first, last] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(part) ?? []
      if (first === undefined) return 'maybe'
      const range =
        last === undefined ? only(Number(first)) : { first: Number(first), last: Number(last) }
      return isWithin(ports, range)
    }),
  )
}

/** The first packet of a connection has only SYN. @param values which flags are looked at, and which are set */
function beginsTcp([looked = '', set = '']: readonly string[]): Match {
  const seen = looked.split(',').filter((flag) => flag === 'SYN' || flag === 'ALL')
  return isSo(seen.length > 0 ? set === 'SYN' : set === 'NONE')
}
