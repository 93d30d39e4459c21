/** The start of an attempt: ends the one before, looks for a power cut, and binds the new one. */
import { bind, restart, type Choice } from './attempts.ts'
import type { Changed, Life, Now, Policy, Told } from './life.ts'
import { cutMachines, excuse, type Restarts } from './power-cut.ts'

/** The machines of a site. */
export interface Lives extends Restarts {
  /** The life of a machine, which may be new. */
  of(machine: string): Life
  keep(life: Life): void
}

/** @returns the life after the action, which is kept if it has changed */
export function keepChange(
  lives: Pick<Lives, 'of' | 'keep'>,
  machine: string,
  told: Told[],
  action: (life: Life) => Changed,
): Life {
  const life = lives.of(machine)
  const changed = action(life)
  if (changed.life !== life) lives.keep(changed.life)
  told.push(...changed.told)
  return changed.life
}

/** The last attempt of the machine is the new one, and runs, unless the machine has nothing to boot. */
export function begin(
  lives: Lives,
  machine: string,
  { now, policy, ...choice }: { now: Now; policy: Policy } & Choice,
): { life: Life; told: Told[] } {
  const told: Told[] = []
  keepChange(lives, machine, told, (life) => restart(life, now, policy))
  for (const cut of cutMachines(lives, now)) keepChange(lives, cut, told, excuse)
  const life = keepChange(lives, machine, told, (life) => bind(life, now, policy, choice))
  return { life, told }
}
