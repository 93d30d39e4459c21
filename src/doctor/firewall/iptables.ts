/** Reads what `iptables-save` prints: iptables-extensions(8). */
import { optionMatches, splitWords, takeOption } from './iptables-options.ts'
import { all, not, type Match } from './packet.ts'
import type { BaseChain, Rule, Verdict } from './rules.ts'

export interface IptablesChain extends BaseChain {
  table: string
}

/** The chains of each table that packets to this computer pass. */
const passed: Readonly<Record<string, readonly string[]>> = {
  raw: ['PREROUTING'],
  mangle: ['PREROUTING', 'INPUT'],
  filter: ['INPUT'],
  security: ['INPUT'],
}

export interface Iptables {
  /** The names of all tables. */
  tables: string[]
  chains: IptablesChain[]
}

export function parseIptables(text: string): Iptables {
  const tables = new Map<string, { rules: Map<string, Rule[]>; policies: Map<string, string> }>()
  let table: ReturnType<typeof tables.get>
  for (const line of text.split('\n')) {
    const [, name] = /^\*(\S+)$/.exec(line) ?? []
    if (name !== undefined) {
      table = { rules: new Map(), policies: new Map() }
      tables.set(name, table)
      continue
    }
    const [, chain, policy] = /^:(\S+) (\S+)/.exec(line) ?? []
    if (chain !== undefined && policy !== undefined) {
      table?.rules.set(chain, [])
      table?.policies.set(chain, policy)
      continue
    }
    const [option, to, ...words] = splitWords(line)
    const rules = option === '-A' && to !== undefined ? table?.rules.get(to) : undefined
    if (table && rules) rules.push(ruleOf(words, table.rules))
  }
  return {
    tables: [...tables.keys()],
    chains: [...tables].flatMap(([name, { rules, policies }]) =>
      (Object.hasOwn(passed, name) ? (passed[name] ?? []) : [])
        .filter((chain) => rules.has(chain))
        .map((chain) => {
          const policy = policies.get(chain) === 'DROP' ? 'drop' : 'accept'
          return { table: name, chain, chains: rules, policy } as const
        }),
    ),
  }
}

/** @param chains of the table; all are known when the rule is used */
function ruleOf(words: readonly string[], chains: ReadonlyMap<string, unknown>): Rule {
  const options: { name: string; values: readonly string[]; isNegated: boolean }[] = []
  let target: { name: string; isGoto: boolean } | undefined
  for (let rest = words; rest.length > 0;) {
    const taken = takeOption(rest)
    rest = taken.rest
    const { name, values } = taken
    if (name === '-j' || name === '-g') {
      target = { name: values[0] ?? '', isGoto: name === '-g' }
      // The options of the target follow.
      break
    }
    options.push(taken)
  }
  return (packet) => {
    const verdict = target && verdictOf(target, chains)
    if (!verdict) return []
    const inverts = options.some(({ name }) => name === '--invert')
    const matches = options.map(({ name, values, isNegated }): Match => {
      const match = optionMatches(name, values, packet)
      const isInverted = name === '-m' && values[0] === 'rpfilter' && inverts
      return isNegated !== isInverted ? not(match) : match
    })
    return [{ match: all(matches), verdict }]
  }
}

/** Targets after which the next rule follows. */
const harmless = new Set([
  ...['LOG', 'NFLOG', 'ULOG', 'MARK', 'CONNMARK', 'CT', 'NOTRACK', 'TCPMSS', 'TTL', 'AUDIT', 'SET'],
  ...['TRACE', 'CHECKSUM', 'CLASSIFY', 'DSCP', 'TOS', 'SECMARK', 'CONNSECMARK', 'TEE', 'RATEEST'],
])

/** @returns undefined if the rule does not decide */
function verdictOf(
  { name, isGoto }: { name: string; isGoto: boolean },
  chains: ReadonlyMap<string, unknown>,
): Verdict | undefined {
  if (chains.has(name)) return { kind: isGoto ? 'goto' : 'jump', chain: name }
  if (harmless.has(name)) return undefined
  switch (name) {
    case 'ACCEPT':
      return { kind: 'accept' }
    case 'DROP':
    case 'REJECT':
      return { kind: 'drop' }
    case 'RETURN':
      return { kind: 'return' }
    default:
      return { kind: 'unknown' }
  }
}
