/** Conditions of nftables: libnftables-json(5), "EXPRESSIONS". */
import { isIPv4 } from 'node:net'
import * as v from 'valibot'

import { parseAddress } from '../../ipv4.ts'
import {
  all,
  any,
  isSo,
  isWithin,
  not,
  only,
  prefixRange,
  type Match,
  type Packet,
  type Range,
} from './packet.ts'

/** The named sets of a table, as expressions. */
export type Sets = ReadonlyMap<string, unknown>

export interface Condition {
  op: string
  left: unknown
  right: unknown
}

/**
 * - absent: only packets of other protocols have such a value, so the packet does not match
 * - unknown: the packet has it, but we do not know it
 */
type Value = Range | string | Value[] | { is: 'absent' | 'unknown' }

const absent: Value = { is: 'absent' }
const unknown: Value = { is: 'unknown' }

const leftSchema = v.union([
  v.object({ meta: v.object({ key: v.string() }) }),
  v.object({ payload: v.object({ protocol: v.string(), field: v.string() }) }),
  v.object({ ct: v.object({ key: v.string() }) }),
  v.object({ fib: v.object({ result: v.string(), flags: v.optional(v.unknown()) }) }),
  v.object({ concat: v.array(v.unknown()) }),
  v.object({ '&': v.tuple([v.unknown(), v.unknown()]) }),
])

const rightSchema = v.union([
  v.object({ set: v.unknown() }),
  v.object({ range: v.tuple([v.unknown(), v.unknown()]) }),
  v.object({
    prefix: v.object({
      addr: v.string(),
      len: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(32)),
    }),
  }),
  v.object({ elem: v.object({ val: v.unknown() }) }),
  v.object({ concat: v.array(v.unknown()) }),
])

/** Sets may contain sets. A text that someone made may do so without end. */
const deepest = 16
const setDepth = 8

export function createValues(sets: Sets) {
  function matches({ op, left, right }: Condition, packet: Packet): Match {
    const value = valueOf(left, packet)
    if (isSpecial(value)) return value.is === 'absent' ? 'no' : 'maybe'
    switch (op) {
      case '==':
      case 'in':
        return equals(value, right, 0)
      case '!=':
        return not(equals(value, right, 0))
      default:
        return compares(value, op, right)
    }
  }

  function equals(value: Value, right: unknown, depth: number): Match {
    if (depth > deepest || isSpecial(value)) return 'maybe'
    if (Array.isArray(right)) return any(right.map((each) => equals(value, each, depth + 1)))
    if (typeof right === 'boolean')
      return typeof value === 'string' ? isSo(value === `${right}`) : 'maybe'
    if (typeof right === 'string' && right.startsWith('@')) {
      const name = right.slice(1)
      return sets.has(name) ? equals(value, sets.get(name), depth + setDepth) : 'maybe'
    }
    const range = rangeOf(right)
    if (range) return isRange(value) ? isWithin(value, range) : 'maybe'
    if (typeof right === 'string') return typeof value === 'string' ? named(value, right) : 'maybe'
    const parsed = v.safeParse(rightSchema, right)
    if (!parsed.success) return 'maybe'
    const { output } = parsed
    if ('set' in output) return equals(value, [output.set].flat(), depth + 1)
    if ('elem' in output) return equals(value, output.elem.val, depth + 1)
    if (!('concat' in output) || !Array.isArray(value)) return 'maybe'
    const { concat } = output
    if (concat.length !== value.length) return 'maybe'
    return all(value.map((each, index) => equals(each, concat[index], depth + 1)))
  }

  return { matches }
}

function isSpecial(value: Value): value is { is: 'absent' | 'unknown' } {
  return typeof value === 'object' && 'is' in value
}

function isRange(value: Value): value is Range {
  return typeof value === 'object' && 'first' in value
}

function compares(value: Value, op: string, right: unknown): Match {
  const range = rangeOf(right)
  if (!range || !isRange(value) || range.first !== range.last) return 'maybe'
  const to = range.first
  const most = Number.MAX_SAFE_INTEGER
  switch (op) {
    case '<':
      return isWithin(value, { first: 0, last: to - 1 })
    case '<=':
      return isWithin(value, { first: 0, last: to })
    case '>':
      return isWithin(value, { first: to + 1, last: most })
    case '>=':
      return isWithin(value, { first: to, last: most })
    default:
      return 'maybe'
  }
}

/** Numbers and addresses, and ranges of them. */
function rangeOf(right: unknown): Range | undefined {
  const number = numberOf(right)
  if (number !== undefined) return only(number)
  const parsed = v.safeParse(rightSchema, right)
  if (!parsed.success) return undefined
  if ('prefix' in parsed.output) {
    const { addr, len } = parsed.output.prefix
    return isIPv4(addr) ? prefixRange(addr, len) : undefined
  }
  if (!('range' in parsed.output)) return undefined
  const [first, last] = parsed.output.range.map(numberOf)
  return first === undefined || last === undefined ? undefined : { first, last }
}

function numberOf(value: unknown): number | undefined {
  if (typeof value === 'number') return value
  return typeof value === 'string' && isIPv4(value) ? parseAddress(value) : undefined
}

/** @param wanted the name of an interface may end with a star */
function named(value: string, wanted: string): Match {
  if (wanted.includes('\\')) return 'maybe'
  return isSo(wanted.endsWith('*') ? value.startsWith(wanted.slice(0, -1)) : value === wanted)
}

/** What the packet has at the left side of a condition. */
function valueOf(left: unknown, packet: Packet): Value {
  const parsed = v.safeParse(leftSchema, left)
  if (!parsed.success) return unknown
  const { output } = parsed
  if ('meta' in output) return metaOf(output.meta.key, packet)
  if ('payload' in output) return payloadOf(output.payload, packet)
  // The packet begins a connection.
  if ('ct' in output) return output.ct.key === 'state' ? 'new' : unknown
  if ('fib' in output) return routeOf(output.fib, packet)
  if ('concat' in output) return combined(output.concat, packet)
  const [masked, mask] = output['&']
  return flagsOf(masked, mask, packet)
}

function combined(parts: readonly unknown[], packet: Packet): Value {
  const values = parts.map((part) => {
    // No known packet needs more.
    const isNested = v.is(v.object({ concat: v.unknown() }), part)
    return isNested ? unknown : valueOf(part, packet)
  })
  return values.find((value) => isSpecial(value) && value.is === 'absent') ?? values
}

function metaOf(key: string, { device, protocol, isBroadcast }: Packet): Value {
  switch (key) {
    case 'iifname':
    case 'iif':
      return device
    case 'l4proto':
      return protocol
    case 'nfproto':
      return 'ipv4'
    case 'protocol':
      return 'ip'
    case 'pkttype':
      return isBroadcast ? 'broadcast' : 'host'
    default:
      return unknown
  }
}

/** A packet of TCP or UDP over IPv4 has no header of these protocols. */
const others = new Set([
  'ip6',
  'icmp',
  'icmpv6',
  'igmp',
  'sctp',
  'dccp',
  'esp',
  'ah',
  'udplite',
  'arp',
])

function payloadOf(
  { protocol, field }: { protocol: string; field: string },
  packet: Packet,
): Value {
  if (others.has(protocol)) return absent
  switch (protocol) {
    case 'tcp':
    case 'udp':
    case 'th':
      if (protocol !== 'th' && protocol !== packet.protocol) return absent
      if (field === 'dport') return packet.destination.ports
      return field === 'sport' ? packet.source.ports : unknown
    case 'ip':
      if (field === 'saddr') return packet.source.addresses
      if (field === 'daddr') return packet.destination.addresses
      return field === 'protocol' ? packet.protocol : unknown
    default:
      return unknown
  }
}

/** What the routes say: the way back to the source is by the interface, and the destination is this computer. */
function routeOf({ result, flags }: { result: string; flags?: unknown }, packet: Packet): Value {
  const by = [flags].flat()
  if (result === 'type' && by.includes('daddr')) return packet.isBroadcast ? 'broadcast' : 'local'
  const isBack = result === 'oif' && by.includes('saddr') && !packet.isBroadcast
  return isBack ? 'true' : unknown
}

const payloadSchema = v.object({
  payload: v.object({ protocol: v.literal('tcp'), field: v.literal('flags') }),
})

/** The first packet of a TCP connection has only the flag SYN. */
function flagsOf(left: unknown, mask: unknown, { protocol }: Packet): Value {
  if (!v.is(payloadSchema, left)) return unknown
  if (protocol !== 'tcp') return absent
  return [mask].flat().includes('syn') ? 'syn' : unknown
}
