/** The rules of a firewall, and what becomes of a packet by them. */
import type { Match, Packet } from './packet.ts'

/** `unknown`: the packet may be accepted, dropped, or left to the next rule. */
export type Verdict =
  { kind: 'accept' | 'drop' | 'return' | 'unknown' } | { kind: 'jump' | 'goto'; chain: string }

/** What a rule does with the packet. */
export interface Choice {
  match: Match
  verdict: Verdict
}

/** A rule may choose by a map. The first choice that matches holds. */
export type Rule = (packet: Packet) => readonly Choice[]

/** What a chain can do with the packet. */
export type Outcome = 'accept' | 'drop' | 'continue'

/** The chains of a table by their names. */
export type Chains = ReadonlyMap<string, readonly Rule[]>

/** A chain at which the kernel begins. */
export interface BaseChain {
  chains: Chains
  chain: string
  policy: 'accept' | 'drop'
  /** Set if the kernel may ignore the table: then its rules may drop nothing. */
  mayBeDormant?: boolean
}

/** The kernel allows 16. */
const deepest = 64

/** @returns `unknown` if it depends on what is not known of the packet */
export function judge(
  { chains, chain, policy, mayBeDormant = false }: BaseChain,
  packet: Packet,
): 'accept' | 'drop' | 'unknown' {
  const results = new Map<string, ReadonlySet<Outcome>>()
  const outcomes = new Set(walk(chain, 0))
  if (outcomes.delete('continue')) outcomes.add(policy)
  if (mayBeDormant) outcomes.add('accept')
  const [first, ...more] = outcomes
  return first === undefined || first === 'continue' || more.length > 0 ? 'unknown' : first

  function walk(name: string, depth: number): ReadonlySet<Outcome> {
    const known = results.get(name)
    if (known) return known
    const rules = chains.get(name)
    if (!rules || depth > deepest) return anything
    // The kernel refuses loops.
    results.set(name, anything)
    const found = walkRules(rules, depth)
    results.set(name, found)
    return found
  }

  function walkRules(rules: readonly Rule[], depth: number): ReadonlySet<Outcome> {
    const found = new Set<Outcome>()
    for (const rule of rules) {
      for (const { match, verdict } of rule(packet)) {
        if (match === 'no') continue
        const does = outcomesOf(verdict, depth)
        // A jump comes back to the next rule; `return` and `goto` leave the chain.
        const comesBack =
          does.has('continue') && (verdict.kind === 'jump' || verdict.kind === 'unknown')
        for (const outcome of does) if (outcome !== 'continue' || !comesBack) found.add(outcome)
        if (match === 'yes' && !comesBack) return found
        // Only the first choice that matches holds.
        if (match === 'yes') break
      }
    }
    return found.add('continue')
  }

  function outcomesOf(verdict: Verdict, depth: number): ReadonlySet<Outcome> {
    switch (verdict.kind) {
      case 'accept':
      case 'drop':
        return new Set([verdict.kind])
      case 'return':
        return new Set(['continue'])
      case 'unknown':
        return anything
      case 'jump':
      case 'goto':
        return walk(verdict.chain, depth + 1)
    }
  }
}

const anything: ReadonlySet<Outcome> = new Set(['accept', 'drop', 'continue'])
