/** Whether a group needs a roll-out, besides those that it has had. */
import { saysReason } from '../rollout/halt.ts'
import {
  settingNames,
  settingsOf,
  type GroupSettings,
  type RestartCommands,
  type Rollout,
} from '../rollout/rollout.ts'
import { canonicalJson } from './canonical-json.ts'
import type { DecidedGroup, PlannedMachine } from './planned.ts'

type Wanted = Omit<DecidedGroup, 'rollout' | 'begins' | 'changedSettings'>

/**
 * @param newest the newest roll-out of the group
 * @param names by machine
 */
export function plannedRollout(
  group: Wanted,
  newest: Rollout | undefined,
  names: ReadonlyMap<string, string>,
): Pick<DecidedGroup, 'rollout' | 'begins' | 'changedSettings'> {
  const reason = newest && saysReason(newest, names)
  const rollout = newest && {
    ...{ number: newest.number, state: newest.state },
    ...(reason !== undefined && { reason }),
  }
  const shown = rollout && { rollout }
  if (group.machines.length === 0) return { ...shown }
  if (!newest) return { begins: 'first' }
  if (newest.candidate.image !== group.image.id) return { ...shown, begins: 'image' }
  // Another roll-out of the same image would go on where this one has halted.
  if (newest.state === 'halted') return { ...shown }
  const changedSettings = changedIn(group, newest)
  if (changedSettings.length > 0) return { ...shown, begins: 'settings', changedSettings }
  const hasLeft = group.machines.some(
    (machine) => isToChange(machine) && !isComing(machine, newest),
  )
  return { ...shown, ...(hasLeft && { begins: 'machines' }) }
}

export function isToChange({ change }: PlannedMachine): boolean {
  return change === 'new' || change === 'back'
}

/** Whether the roll-out is still going to give its image to the machine. */
export function isComing({ machine }: PlannedMachine, { state, machines }: Rollout): boolean {
  if (state === 'aborted' || state === 'replaced') return false
  return machines[machine]?.given === undefined
}

export function restartOf({ reboot, power }: PlannedMachine): RestartCommands | undefined {
  if (!reboot && !power) return undefined
  return { ...(reboot && { reboot }), ...(power && { power }) }
}

function changedIn(group: Wanted, newest: Rollout): string[] {
  const [wanted, has] = [comparable(group, newest), comparable(newest, newest)]
  const changed = Object.entries(settingNames)
    .filter(([key]) => wanted.get(key) !== has.get(key))
    .map(([, called]) => called)
  const restarts = group.machines.some(
    (machine) =>
      canonicalJson(restartOf(machine)) !==
      canonicalJson(newest.machines[machine.machine]?.restart),
  )
  return [...changed, ...(restarts ? ['reboot or power of machines'] : [])]
}

function comparable(group: GroupSettings, newest: Rollout): Map<string, string> {
  const settings = { ...settingsOf(group), waves: wavesOf(group.waves, newest) }
  return new Map(Object.entries(settings).map(([key, value]) => [key, canonicalJson(value)]))
}

/**
 * The order of machines in a wave says nothing, and changes with their names. In which wave a machine was
 * says nothing any more once the roll-out is done.
 */
function wavesOf(waves: Wanted['waves'], { state }: Rollout): string {
  const all = waves.flatMap(({ machines }) => machines).toSorted()
  if (state === 'done') return canonicalJson(all)
  return canonicalJson(
    waves.map(({ machines, pause }) => ({ machines: machines.toSorted(), pause })),
  )
}
