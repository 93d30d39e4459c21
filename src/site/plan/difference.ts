/** What has changed between two plans, in words. */
import { NetimageError } from '../../errors.ts'
import { shownDigits } from '../images/choose-image.ts'
import { canonicalJson } from './canonical-json.ts'
import type { Decided } from './planned.ts'
import { settingNames } from '../rollout/rollout.ts'
import type { ReadPlan } from './read-plan.ts'

type Comparable = Pick<ReadPlan | Decided, 'digest'> & {
  groups: readonly ComparableGroup[]
  names: readonly { machine: string; name: string }[]
}

interface ComparableGroup {
  name: string
  image: { id: string }
  machines: readonly { machine: string; name?: string; current?: number; isHeld?: true }[]
  rollout?: { number: number; state: string }
}

/** The lines that an error has. */
const mostLines = 20

/** @param shown what the person saw @param now what is so in the site */
export function stalePlan(shown: Comparable, now: Comparable): NetimageError {
  const all = differences(shown, now)
  const left = all.length - mostLines
  const lines = [...all.slice(0, mostLines), ...(left > 0 ? [`and ${left} more`] : [])]
  const message = [
    `the site is not any more as plan ${shown.digest.slice(0, shownDigits)} has it:`,
    ...lines.map((line) => `  ${line}`),
  ]
  return new NetimageError('stale-plan', message.join('\n'), {
    details: { expected: shown.digest, actual: now.digest },
    hint: 'Nothing was changed. Look at the new plan: netimage site plan.',
  })
}

function differences(shown: Comparable, now: Comparable): string[] {
  const [before, after] = [groupsIn(shown), groupsIn(now)]
  const names = [...new Set([...before.keys(), ...after.keys()])]
  const found = names.flatMap((name) => ofGroup(name, before.get(name), after.get(name)))
  const isSame = canonicalJson(shown.names) === canonicalJson(now.names)
  const all = isSame ? found : [...found, 'other machines are to be given names']
  return all.length > 0 ? all : ['machines are in other groups, or in other waves']
}

function groupsIn({ groups }: Comparable): Map<string, ComparableGroup> {
  return new Map(groups.map((group) => [group.name, group]))
}

function ofGroup(
  name: string,
  before: ComparableGroup | undefined,
  after: ComparableGroup | undefined,
): string[] {
  if (!before || !after) return [`group ${name} is ${before ? 'gone' : 'new'}`]
  const [from, to] = [before.image.id, after.image.id].map((id) => id.slice(0, shownDigits))
  return [
    ...(from === to ? [] : [`it is to get image ${to}, not ${from}`]),
    ...ofRollout(before.rollout, after.rollout),
    ...ofMachines(before, after),
    ...ofSettings(before, after),
  ].map((line) => `group ${name}: ${line}`)
}

function ofRollout(before: ComparableGroup['rollout'], after: ComparableGroup['rollout']) {
  if (!after) return before ? [`roll-out ${before.number} is gone`] : []
  const { number, state } = after
  if (before?.number !== number) return [`roll-out ${number} has begun meanwhile`]
  return before.state === state ? [] : [`roll-out ${number} is ${state}, not ${before.state}`]
}

function* ofMachines(before: ComparableGroup, after: ComparableGroup): Generator<string> {
  const had = new Map(before.machines.map((each) => [each.machine, each]))
  for (const { machine, name = machine, current, isHeld } of after.machines) {
    const known = had.get(machine)
    had.delete(machine)
    const [is, was] = [current, known?.current].map((number) =>
      number === undefined ? 'nothing' : `generation ${number}`,
    )
    if (!known) yield `${name} has joined it`
    else if (is !== was) yield `${name} boots ${is} next, not ${was}`
    if (known && known.isHeld !== isHeld)
      yield `${name} is ${isHeld ? '' : 'not '}held${isHeld ? '' : ' any more'}`
  }
  for (const { machine, name = machine } of had.values()) yield `${name} has left it`
}

function ofSettings(before: ComparableGroup, after: ComparableGroup): string[] {
  const [had, has] = [valuesIn(before), valuesIn(after)]
  const changed = Object.entries(settingNames)
    .filter(([key]) => had.get(key) !== has.get(key))
    .map(([, called]) => called)
  return changed.length > 0 ? [`it has other settings: ${changed.join(', ')}`] : []
}

function valuesIn(group: object): Map<string, string> {
  return new Map(Object.entries(group).map(([key, value]) => [key, canonicalJson(value)]))
}
