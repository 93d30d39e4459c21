/** Compares the machines of a site with what its file says. Changes nothing. */
import type { CheckFinding } from '../../check/check-system.ts'
import type { KnownMachine } from '../desired/catalogue.ts'
import type { ResolvedGroup } from '../desired/resolve.ts'
import { findKnown } from '../life/choose.ts'
import { generationOf, newLife, type Life } from '../life/life.ts'
import { closureDifference, type ClosureItem } from './closure-difference.ts'
import { digestOf } from './digest.ts'
import type {
  Plan,
  PlannedChange,
  PlannedGroup,
  PlannedImage,
  PlannedMachine,
  PlannedName,
} from './planned.ts'
import type { SiteNow } from './site-now.ts'

/** A group, and the image that it gets. */
export interface GroupWithImage {
  group: ResolvedGroup
  image: PlannedImage
  closure: readonly ClosureItem[]
  findings: readonly CheckFinding[]
}

/**
 * @param machines all that the file names
 * @throws `BrokenRow` of a machine in a group
 */
export async function makePlan(
  groups: readonly GroupWithImage[],
  machines: readonly KnownMachine[],
  notes: readonly string[],
  site: SiteNow,
): Promise<Plan> {
  const planned = await Promise.all(groups.map((each) => planGroup(each, site)))
  const names = machines.flatMap((machine) => renamed(machine, site) ?? [])
  const isSettled = planned.every((group) =>
    group.machines.every(({ change }) => change === 'nothing'),
  )
  return {
    version: 1,
    digest: digestOf(planned, names),
    isDone: isSettled && names.length === 0,
    ...{ groups: planned, names, notes },
  }
}

async function planGroup(
  { group, image, closure, findings }: GroupWithImage,
  site: SiteNow,
): Promise<PlannedGroup> {
  const { name, system, maxUnavailable, halt, health, rebuild, keep, waves } = group
  const machines = group.machines.map((machine) => planMachine(machine, image, site))
  return {
    ...{ name, system, image, maxUnavailable, halt, health, rebuild, keep, waves, machines },
    ...{ changes: await changesOf(machines, closure, site), findings },
  }
}

function planMachine(
  { machine, name, desired }: KnownMachine,
  { id, toplevel }: PlannedImage,
  site: SiteNow,
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
    ...(site.held.has(machine) && { isHeld: true }),
  }
}

function lifeOf({ lives, broken }: SiteNow, machine: string): Life {
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

/** Machines that boot the same are alike, and a person wants to read only once what changes. */
async function changesOf(
  machines: readonly PlannedMachine[],
  closure: readonly ClosureItem[],
  site: SiteNow,
): Promise<PlannedChange[]> {
  const changed = machines.filter(({ change }) => change === 'new' || change === 'back')
  const alike = Map.groupBy(changed, ({ machine }) => bootsNow(lifeOf(site, machine)))
  const changes: PlannedChange[] = []
  for (const [first, ...others] of alike.values()) {
    if (!first) continue
    const machines = [first, ...others].map(({ machine }) => machine)
    const life = lifeOf(site, first.machine)
    const described =
      life.current === undefined ? undefined : await site.describe(life, life.current)
    const before = described?.closure
    changes.push({
      machines,
      ...(described && { from: described.booted }),
      ...(before && { difference: closureDifference(before, closure) }),
    })
  }
  return changes
}

function bootsNow(life: Life): string {
  const { image = '', toplevel = '', published } = generationOf(life, life.current) ?? {}
  return published === undefined ? image : `${image} ${toplevel}`
}

function renamed({ machine, name, desired }: KnownMachine, site: SiteNow): PlannedName | undefined {
  const before = site.names.get(machine)
  if (!desired || name === undefined || name === before) return undefined
  return { machine, name, ...(before !== undefined && { before }) }
}
