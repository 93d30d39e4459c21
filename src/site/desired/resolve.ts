/** Which machines each group and each wave of a site's file has, and what is wrong with that. */
import type { Catalogue, KnownMachine } from './catalogue.ts'
import type { Desired, Group } from './desired.ts'
import type { GroupSettings } from '../rollout/rollout.ts'
import type { Problem } from './problem.ts'
import { isPattern } from './selector.ts'
import { atMost, resolveWaves } from './waves.ts'

export interface ResolvedGroup extends GroupSettings, Pick<Group, 'name' | 'system'> {
  machines: readonly KnownMachine[]
}

export interface Resolved {
  groups: readonly ResolvedGroup[]
  problems: readonly Problem[]
  /** What may be as the person wants it: sentences without a full stop. */
  notes: readonly string[]
}

export function resolveGroups({ groups }: Desired, catalogue: Catalogue): Resolved {
  const problems: Problem[] = [...catalogue.problems]
  const notes: string[] = [...catalogue.notes]
  /** What has each machine: its group, and the selector there. */
  const owners = new Map<string, { group: string; selector: string }>()
  const { nameOf } = catalogue

  /** @returns undefined if there is no such machine, which is a problem */
  function find(selector: string, field: string): readonly string[] | undefined {
    const found = catalogue.find(selector)
    if (found === undefined) problems.push(unknownMachine(selector, field, catalogue))
    return found
  }

  function machinesOf({ name, machines }: Group): string[] {
    const ofGroup = new Set<string>()
    for (const [at, selector] of machines.entries()) {
      const field = `group.${name}.machines.${at}`
      const found = find(selector, field)
      if (found?.length === 0 && isPattern(selector))
        notes.push(`${field}: no machine matches ${selector}`)
      for (const machine of found ?? []) {
        const owner = owners.get(machine)
        ofGroup.add(machine)
        if (!owner) owners.set(machine, { group: name, selector })
        else if (owner.group !== name) {
          problems.push({
            field,
            message: `${nameOf(machine)} is in the group ${owner.group} already, by ${owner.selector}`,
            hint: 'A machine has one image, so it can be in one group only. Remove it from one of them.',
          })
        } else if (!isPattern(selector) && !isPattern(owner.selector)) {
          problems.push({
            field,
            message: `${nameOf(machine)} is in this group already, by ${owner.selector}`,
            hint: 'Write it once.',
          })
        }
      }
    }
    return [...ofGroup]
  }

  const resolved = groups.map((group): ResolvedGroup => {
    const { name, maxUnavailable, halt, ...settings } = group
    const keys = machinesOf(group)
    if (keys.length === 0) notes.push(`group.${name}: it has no machine`)
    const inGroup = new Set(keys)
    const { waves, problems: ofWaves } = resolveWaves(keys, group.waves, {
      field: `group.${name}.waves`,
      nameOf,
      find(selector, field) {
        const found = find(selector, field) ?? []
        const strangers = found.filter((machine) => !inGroup.has(machine))
        if (!isPattern(selector) && strangers.length > 0) {
          problems.push({
            field,
            message: `${selector} is not in this group`,
            hint: `Add it to group.${name}.machines, or remove it from the wave.`,
          })
        }
        return found
      },
    })
    problems.push(...ofWaves)
    return {
      ...settings,
      ...{ name, waves, machines: keys.map(catalogue.get) },
      maxUnavailable: atMost(maxUnavailable, keys.length),
      halt: atMost(halt, keys.length),
    }
  })
  return { groups: resolved, problems: [...problems, ...sameNames(groups, catalogue)], notes }
}

function unknownMachine(selector: string, field: string, { nearest }: Catalogue): Problem {
  const near = nearest(selector)
  const meant = near === undefined ? '' : `Did you mean ${near}? `
  return {
    field,
    message: `no machine has the name ${selector}`,
    hint: `${meant}Add the machine: [machine.${selector}] with its mac, or name one of the site: netimage site name ADDRESS ${selector}.`,
  }
}

/** Commands take the name of a group or of a machine. */
function sameNames(groups: Desired['groups'], { find }: Catalogue): Problem[] {
  return groups
    .filter(({ name }) => find(name) !== undefined)
    .map(({ name }) => ({
      field: `group.${name}`,
      message: 'a machine has this name as well',
      hint: 'Give the group another name, so that commands can tell them apart.',
    }))
}
