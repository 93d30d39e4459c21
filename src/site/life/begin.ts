/** The start of an attempt: ends the one before, looks for a power cut, and binds the new one. */
import { bind, restart } from './attempts.ts'
import type { Attempt, Candidate, Changed, Life, Now, Policy, Told } from './life.ts'
import { excuse, isCut, isPowerCut } from './power-cut.ts'

/** The machines of a site. */
export interface Lives {
  /** The life of a machine, which may be new. */
  of(machine: string): Life
  keep(life: Life): void
  /** What tells a power cut, of all machines. */
  signs(): readonly Pick<Life, 'machine' | 'lastSign' | 'restart'>[]
}

/**
 * @param byDefault what the machine boots if nobody chose anything for it
 * @returns no attempt if the machine has nothing to boot
 */
export function begin(
  lives: Lives,
  machine: string,
  { now, policy, byDefault }: { now: Now; policy: Policy; byDefault?: Candidate | undefined },
): { attempt: Attempt | undefined; told: Told[] } {
  const told: Told[] = []
  const change = (name: string, action: (life: Life) => Changed) => {
    const life = lives.of(name)
    const changed = action(life)
    if (changed.life !== life) lives.keep(changed.life)
    told.push(...changed.told)
  }
  change(machine, (life) => restart(life, now, policy))
  const all = lives.signs()
  if (isPowerCut(all, now)) {
    for (const cut of all.filter((each) => isCut(each, now))) change(cut.machine, excuse)
  }
  let attempt: Attempt | undefined
  change(machine, (life) => {
    const bound = bind(life, now, policy, byDefault)
    attempt = bound.attempt
    return bound
  })
  return { attempt, told }
}
