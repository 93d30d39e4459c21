/** Names what applying a plan depends on: if the site has changed since, the digest is another one. */
import { hash } from 'node:crypto'

import { canonicalJson } from './canonical-json.ts'
import type { Decided, DecidedGroup } from './planned.ts'

/**
 * What was only shown does not count: findings, how long machines have been away, why a roll-out does not
 * run, and how the file names an image.
 */
export function digestOf({
  groups,
  names,
  ends,
  moves,
  declarations,
}: Omit<Decided, 'digest' | 'isDone'>): string {
  const others = { names, ends, moves, declarations }
  return hash('sha256', canonicalJson({ groups: groups.map(countedOf), ...others }))
}

function countedOf({ image, machines, rollout, system: _system, ...group }: DecidedGroup) {
  return {
    ...group,
    ...(rollout && { rollout: { number: rollout.number, state: rollout.state } }),
    image: image.id,
    machines: machines.map(({ away: _away, ...machine }) => machine),
  }
}
