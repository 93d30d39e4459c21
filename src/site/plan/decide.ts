/** Decides what there is to do so that machines boot what the file of the site says. Reads nothing. */
import type { KnownMachine } from '../desired/catalogue.ts'
import type { ResolvedGroup } from '../desired/resolve.ts'
import { findKnown } from '../life/choose.ts'
import { generationOf, newLife, type Life } from '../life/life.ts'
import { settingsOf } from '../rollout/rollout.ts'
import { changedDeclarations } from './declared.ts'
import { digestOf } from './digest.ts'
import type {
  Decided,
  DecidedGroup,
  PlannedEnd,
  PlannedImage,
  PlannedMachine,
  PlannedMove,
  PlannedName,
} from './planned.ts'
import { isComing, isToChange, plannedRollout } from './planned-rollout.ts'
import type { SiteFacts } from './site-now.ts'

/** A group, and the image that it gets. */
export interface GroupToDecide {
  group: ResolvedGroup
  image: PlannedImage
}

/**
 * @param machines all that the file names
 * @throws `BrokenRow` of a machine in a group
 */
export function decidePlan(
  groups: readonly GroupToDecide[],
  machines: readonly KnownMachine[],
  notes: readonly string[],
  site: SiteFacts,
): Decided {
  const decided = groups.map((each) => decideGroup(each, site))
  const names = machines.flatMap((machine) => renamed(machine, site) ?? [])
  const [ends, moves] = [endsOf(decided, site), movesOf(decided, site)]
  const declarations = changedDeclarations(machines, site.declarations)
  const all = {
    ...{ groups: decided, names, ends, moves, declarations },
    notes: [...notes, ...site.rollouts.broken.map(({ message }) => message)],
  }
  const isSettled = decided.every((group) => isGroupSettled(group, site))
  const isDone = isSettled && [names, ends, moves, declarations].every(({ length }) => length === 0)
  return { digest: digestOf(all), isDone, ...all }
}

/** Whether all machines boot the image next, or get it by the roll-out that the group has. */
function isGroupSettled(
  { begins, name, machines }: DecidedGroup,
  { rollouts }: SiteFacts,
): boolean {
  if (begins !== undefined) return false
  const newest = rollouts.newest.find(({ group }) => group === name)
  return machines.every((machine) => {
    if (machine.change === 'refused') return false
    if (!isToChange(machine)) return true
    return newest !== undefined && newest.state !== 'halted' && isComing(machine, newest)
  })
}

function decideGroup({ group, image }: GroupToDecide, site: SiteFacts): DecidedGroup {
  const { name, system } = group
  const machines = group.machines.map((machine) => planMachine(machine, image, site))
  const wanted = { name, system, image, ...settingsOf(group), machines }
  const newest = site.rollouts.newest.find((each) => each.group === name)
  return { ...wanted, ...plannedRollout(wanted, newest, site.names) }
}

function endsOf(groups: readonly DecidedGroup[], { rollouts }: SiteFacts): PlannedEnd[] {
  const stay = new Set(groups.flatMap(({ name, machines }) => (machines.length > 0 ? [name] : [])))
  const running = rollouts.newest.filter(({ state }) => state !== 'aborted' && state !== 'replaced')
  return [...running, ...rollouts.broken]
    .filter(({ group }) => !stay.has(group))
    .map(({ group, number }) => ({ group, rollout: number }))
}

function movesOf(groups: readonly DecidedGroup[], { rollouts }: SiteFacts): PlannedMove[] {
  const to = groupsOf(groups)
  const machines = [...new Set([...rollouts.groups.keys(), ...to.keys()])].toSorted()
  return machines.flatMap((machine) => {
    const [before, after] = [rollouts.groups.get(machine), to.get(machine)]
    if (before === after) return []
    return [
      {
        machine,
        ...(before !== undefined && { from: before }),
        ...(after !== undefined && { to: after }),
      },
    ]
  })
}

/** Groups by machine. */
export function groupsOf(groups: readonly DecidedGroup[]): Map<string, string> {
  return new Map(
    groups.flatMap(({ name, machines }) => machines.map(({ machine }) => [machine, name] as const)),
  )
}

function planMachine(
  { machine, name, desired }: KnownMachine,
  { id, toplevel }: PlannedImage,
  site: SiteFacts,
): PlannedMachine {
  const life = lifeOf(site, machine)
  const { hostName, address, reboot, power } = desired ?? {}
  const { current, lastGood } = life
  const known = findKnown(life, { toplevel, image: id })
  const refused = known && 'refused' in known ? known.refused : undefined
  const result = known && 'result' in known ? known.result : 'new'
  const change = refused ? 'refused' : result === 'same' ? 'nothing' : result
  const boots = generationOf(life, current)
  const isReplaced = boots?.published !== undefined && (change === 'new' || change === 'back')
  const away = awayOf(life, site.uptime)
  return {
    machine,
    ...(name !== undefined && { name }),
    ...(hostName !== undefined && { hostName }),
    ...(address !== undefined && { address }),
    ...(reboot && { reboot }),
    ...(power && { power }),
    ...(current !== undefined && { current }),
    ...(lastGood !== undefined && { lastGood }),
    change,
    ...(refused && {
      refused: {
        generation: refused.number,
        ...(refused.reason !== undefined && { reason: refused.reason }),
      },
    }),
    ...(isReplaced && { replacesOwn: boots.toplevel }),
    ...(away !== undefined && { away }),
    ...(site.rollouts.holds.has(machine) && { isHeld: true }),
  }
}

export function lifeOf({ lives, broken }: SiteFacts, machine: string): Life {
  const error = broken.get(machine)
  if (error) throw error
  return lives.get(machine) ?? newLife(machine)
}

/** Time in which no server ran does not count: no machine could be seen then. */
const longAwayMs = 7 * 24 * 3_600_000

function awayOf({ attempts, lastSign }: Life, uptime: number): PlannedMachine['away'] {
  if (attempts.length === 0) return 'never seen'
  const time = uptime - (lastSign ?? 0)
  return time > longAwayMs ? time : undefined
}

function renamed(
  { machine, name, desired }: KnownMachine,
  site: SiteFacts,
): PlannedName | undefined {
  const before = site.names.get(machine)
  if (!desired || name === undefined || name === before) return undefined
  return { machine, name, ...(before !== undefined && { before }) }
}
