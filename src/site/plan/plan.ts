/** Compares the machines of a site with what its file says. Changes nothing. */
import type { CheckFinding } from '../../check/check-system.ts'
import type { TreeFile } from '../../tree-files.ts'
import type { KnownMachine } from '../desired/catalogue.ts'
import { generationOf, type Life } from '../life/life.ts'
import { closureDifference, type ClosureItem } from './closure-difference.ts'
import { decidePlan, lifeOf, type GroupToDecide } from './decide.ts'
import type { DecidedGroup, Plan, PlannedChange, PlannedGroup, PlannedKept } from './planned.ts'
import { isToChange } from './planned-rollout.ts'
import type { SiteNow } from './site-now.ts'

/** A group, and the image that it gets. */
export interface GroupWithImage extends GroupToDecide {
  closure: readonly ClosureItem[]
  /** What it brings outside its store paths. */
  files: readonly TreeFile[]
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
  const decided = decidePlan(groups, machines, notes, site)
  const planned = decided.groups.map(async (group, at): Promise<PlannedGroup> => {
    const { closure = [], files = [], findings = [] } = groups[at] ?? {}
    const changes = await changesOf(group, closure, site)
    return { ...group, changes, findings, kept: keptOf(group, files, site) }
  })
  return { version: 1, ...decided, groups: await Promise.all(planned) }
}

function keptOf(
  { machines }: DecidedGroup,
  files: readonly TreeFile[],
  site: SiteNow,
): PlannedKept[] {
  const willKeep = site.willKeep(files)
  return machines.filter(isToChange).flatMap(({ machine }) => {
    const kept = willKeep(machine)
    return 'files' in kept && kept.files.length === 0 ? [] : [{ machine, ...kept }]
  })
}

/** Machines that boot the same are alike, and a person wants to read only once what changes. */
async function changesOf(
  { machines }: DecidedGroup,
  closure: readonly ClosureItem[],
  site: SiteNow,
): Promise<PlannedChange[]> {
  const changed = machines.filter(isToChange)
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
