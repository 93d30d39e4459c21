/** Reads what `nft -j list ruleset` prints: libnftables-json(5). */
import * as v from 'valibot'

import { createValues, type Sets } from './nft-values.ts'
import { all, type Match, type Packet } from './packet.ts'
import type { BaseChain, Choice, Rule, Verdict } from './rules.ts'

export interface NftChain extends BaseChain {
  family: string
  table: string
}

const object = v.record(v.string(), v.unknown())
const ruleset = v.object({ nftables: v.array(object) })
const place = { family: v.string(), table: v.string() }
const tableSchema = v.object({
  family: v.string(),
  name: v.string(),
  flags: v.optional(v.unknown()),
})
const chainSchema = v.object({
  ...{ ...place, name: v.string() },
  ...{ type: v.optional(v.string()), hook: v.optional(v.string()), policy: v.optional(v.string()) },
  dev: v.optional(v.union([v.string(), v.array(v.string())])),
})
const ruleSchema = v.object({ ...place, chain: v.string(), expr: v.array(v.unknown()) })
const setSchema = v.object({
  ...place,
  name: v.string(),
  elem: v.optional(v.unknown()),
  flags: v.optional(v.unknown()),
})

const families = new Set(['ip', 'inet', 'netdev'])
/** Flags of tables that are in use. nft 1.0.6 prints other words for all flags. */
const awake = new Set<unknown>(['owner', 'persist'])
const hooks = new Set(['ingress', 'prerouting', 'input'])

/**
 * @param device chains for other devices only are left out
 * @returns the chains that packets to this computer pass; undefined if the text is no ruleset
 */
export function parseNft(text: string, device: string): NftChain[] | undefined {
  const parsed = v.safeParse(ruleset, jsonOrNothing(text))
  if (!parsed.success) return undefined
  const found = <T>(name: string, schema: v.GenericSchema<unknown, T>): T[] =>
    parsed.output.nftables.flatMap((entry) => {
      const result = v.safeParse(schema, entry[name])
      return result.success ? [result.output] : []
    })
  const keyOf = (table: { family: string; table: string }) => `${table.family} ${table.table}`
  const flags = new Map(
    found('table', tableSchema).map(({ family, name, flags }) => [
      keyOf({ family, table: name }),
      flags === undefined ? [] : [flags].flat(),
    ]),
  )
  const sets = new Map<string, Map<string, unknown>>()
  for (const set of found('set', setSchema)) {
    // Elements of such a set come and go by themselves.
    if ([set.flags].flat().some((flag) => flag === 'dynamic' || flag === 'timeout')) continue
    inGroup(sets, keyOf(set)).set(set.name, { set: set.elem ?? [] })
  }
  const tables = new Map<string, Map<string, Rule[]>>()
  const chains = found('chain', chainSchema)
  for (const chain of chains) inGroup(tables, keyOf(chain)).set(chain.name, [])
  for (const { expr, chain, ...table } of found('rule', ruleSchema)) {
    const key = keyOf(table)
    tables
      .get(key)
      ?.get(chain)
      ?.push(ruleOf(expr, sets.get(key) ?? new Map()))
  }
  return chains.flatMap(({ family, table, name, type, hook, policy, dev }) => {
    const isForUs =
      families.has(family) && type === 'filter' && hook !== undefined && hooks.has(hook)
    const isElsewhere = dev !== undefined && ![dev].flat().includes(device)
    const own = tables.get(keyOf({ family, table }))
    const ofTable = flags.get(keyOf({ family, table })) ?? []
    if (!isForUs || isElsewhere || !own || ofTable.includes('dormant')) return []
    const ends = policy === 'drop' ? 'drop' : 'accept'
    const mayBeDormant = !ofTable.every((flag) => awake.has(flag))
    return [{ family, table, chain: name, chains: own, policy: ends, mayBeDormant }]
  })
}

function inGroup<T>(groups: Map<string, Map<string, T>>, key: string): Map<string, T> {
  const group = groups.get(key) ?? new Map<string, T>()
  groups.set(key, group)
  return group
}

function jsonOrNothing(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** These neither choose packets nor decide about them. */
const harmless = new Set([
  ...[
    'counter',
    'log',
    'mangle',
    'notrack',
    'set',
    'ct helper',
    'ct timeout',
    'secmark',
    'continue',
  ],
])
const final = new Map<string, Verdict['kind']>([
  ['accept', 'accept'],
  ['drop', 'drop'],
  ['reject', 'drop'],
  ['return', 'return'],
  ['queue', 'unknown'],
  ['fwd', 'unknown'],
  ['tproxy', 'unknown'],
])

const matchSchema = v.object({ op: v.string(), left: v.unknown(), right: v.unknown() })
const target = v.object({ target: v.string() })
const vmapSchema = v.object({
  key: v.unknown(),
  data: v.object({ set: v.array(v.tuple([v.unknown(), v.unknown()])) }),
})
const xtSchema = v.object({ type: v.literal('match') })

function ruleOf(expressions: readonly unknown[], sets: Sets): Rule {
  const { matches } = createValues(sets)
  return (packet: Packet) => {
    const before: Match[] = []
    for (const expression of expressions) {
      const parsed = v.safeParse(object, expression)
      const [name = '', value] = (parsed.success && Object.entries(parsed.output)[0]) || []
      if (harmless.has(name)) continue
      const verdict = verdictOf(name, value)
      if (verdict) return [{ match: all(before), verdict }]
      if (name === 'vmap') return mapped(value, before, packet)
      if (name === 'xt' && !v.is(xtSchema, value)) return [{ match: all(before), verdict: unknown }]
      const match = v.safeParse(matchSchema, value)
      const isMatch = name === 'match' && match.success
      // Limits and whatever we do not know may match.
      before.push(isMatch ? matches(match.output, packet) : 'maybe')
    }
    return []
  }

  function mapped(value: unknown, before: readonly Match[], packet: Packet): Choice[] {
    const parsed = v.safeParse(vmapSchema, value)
    if (!parsed.success) return [{ match: all([...before, 'maybe']), verdict: unknown }]
    const { key, data } = parsed.output
    return data.set.map(([right, does]) => {
      const match = matches({ op: '==', left: key, right }, packet)
      const named = v.safeParse(object, does)
      const [name = '', to] = (named.success && Object.entries(named.output)[0]) || []
      return { match: all([...before, match]), verdict: verdictOf(name, to) ?? unknown }
    })
  }
}

const unknown: Verdict = { kind: 'unknown' }

/** @returns undefined if the statement is none that decides */
function verdictOf(name: string, value: unknown): Verdict | undefined {
  if (name === 'jump' || name === 'goto') {
    const to = v.safeParse(target, value)
    return to.success ? { kind: name, chain: to.output.target } : unknown
  }
  const kind = final.get(name)
  if (kind === undefined || kind === 'jump' || kind === 'goto') return undefined
  return { kind }
}
