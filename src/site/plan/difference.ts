/** What has changed between two plans, in words. It says something for all that the digest counts. */
import { NetimageError } from '../../errors.ts'
import { shownDigits } from '../images/choose-image.ts'
import { settingNames } from '../rollout/rollout.ts'
import { canonicalJson } from './canonical-json.ts'
import type { PlannedImage, PlannedMachine } from './planned.ts'

/** A plan that somebody has printed (read-plan.ts), or one of the present. */
interface Comparable extends Record<'names' | 'ends' | 'moves' | 'declarations', unknown> {
  digest: string
  groups: readonly ComparableGroup[]
}

interface ComparableGroup {
  name: string
  image: Pick<PlannedImage, 'id'>
  machines: readonly ComparableMachine[]
  rollout?: { number: number; state: string }
}

type ComparableMachine = Pick<
  PlannedMachine,
  'machine' | 'name' | 'current' | 'lastGood' | 'change' | 'isHeld'
>

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

const ofSite = [
  ['names', 'other machines are to be given names'],
  ['ends', 'other roll-outs are to end'],
  ['moves', 'other machines come into a group, or leave one'],
  ['declarations', 'other addresses, serial numbers or host names are to be declared'],
] as const

function differences(shown: Comparable, now: Comparable): string[] {
  const [before, after] = [groupsIn(shown), groupsIn(now)]
  const names = [...new Set([...before.keys(), ...after.keys()])]
  const found = names.flatMap((name) => ofGroup(name, before.get(name), after.get(name)))
  const all = [...found, ...differing(shown, now, ofSite)]
  return all.length > 0 ? all : ['groups or machines are in another order']
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
  const lines = [
    ...(from === to ? [] : [`it is to get image ${to}, not ${from}`]),
    ...ofRollout(before.rollout, after.rollout),
    ...ofMachines(before, after),
    ...ofSettings('it', before, after, Object.entries(settingNames)),
  ]
  // Whether a roll-out begins follows from all else, and from what the newest roll-out has.
  const found = lines.length > 0 ? lines : differing(before, after, ofBeginning)
  return found.map((line) => `group ${name}: ${line}`)
}

const ofBeginning = [
  ['begins', 'another roll-out begins, or none, or for another reason'],
  ['changedSettings', 'other settings differ from those of its newest roll-out'],
] as const

function ofRollout(before: ComparableGroup['rollout'], after: ComparableGroup['rollout']) {
  if (!after) return before ? [`roll-out ${before.number} is gone`] : []
  const { number, state } = after
  if (before?.number !== number) return [`roll-out ${number} has begun meanwhile`]
  return before.state === state ? [] : [`roll-out ${number} is ${state}, not ${before.state}`]
}

function* ofMachines(before: ComparableGroup, after: ComparableGroup): Generator<string> {
  const had = new Map(before.machines.map((each) => [each.machine, each]))
  for (const now of after.machines) {
    const known = had.get(now.machine)
    had.delete(now.machine)
    if (known) yield* ofMachine(known, now, before.image.id === after.image.id)
    else yield `${nameOf(now)} has joined it`
  }
  for (const gone of had.values()) yield `${nameOf(gone)} has left it`
}

/** As the file of the site calls them. */
const settingsOfMachine = [
  ['hostName', 'host-name'],
  ['address', 'address'],
  ['reboot', 'reboot'],
  ['power', 'power'],
] as const

const changes: Record<PlannedMachine['change'], string> = {
  nothing: 'boots the image next already',
  new: 'does not boot the image next, and gets it as a new generation',
  back: 'does not boot the image next, and goes back to it',
  refused: 'has refused the image: it was bad there',
}

function ofMachine(
  before: ComparableMachine,
  now: ComparableMachine,
  isSameImage: boolean,
): string[] {
  const who = nameOf(now)
  const lines = [
    ...(before.name === now.name
      ? []
      : [`${now.machine} has ${now.name ? `the name ${now.name}` : 'no name'}`]),
    ...(before.current === now.current
      ? []
      : [`${who} boots ${generation(now.current)} next, not ${generation(before.current)}`]),
    ...(before.lastGood === now.lastGood
      ? []
      : [`${who} goes back to ${generation(now.lastGood)}, not to ${generation(before.lastGood)}`]),
    ...(before.isHeld === now.isHeld
      ? []
      : [`${who} is ${now.isHeld ? 'held' : 'not held any more'}`]),
    ...ofSettings(who, before, now, settingsOfMachine),
  ]
  // What follows from the generations and from the image is not said twice.
  if (lines.length > 0 || !isSameImage) return lines
  if (before.change !== now.change) return [`${who} ${changes[now.change]}`]
  return differing(before, now, [
    ['refused', `${who} has refused the image in another generation, or for another reason`],
    ['replacesOwn', `${who} boots another system that it built itself`],
  ])
}

function generation(number: number | undefined): string {
  return number === undefined ? 'nothing' : `generation ${number}`
}

function nameOf({ machine, name = machine }: ComparableMachine): string {
  return name
}

function ofSettings(whose: string, before: object, now: object, settings: Says): string[] {
  const changed = differing(before, now, settings)
  return changed.length > 0 ? [`${whose} has other settings: ${changed.join(', ')}`] : []
}

type Says = readonly (readonly [key: string, says: string])[]

/** @returns what is said of the keys whose values differ */
function differing(before: object, now: object, says: Says): string[] {
  const [had, has] = [valuesIn(before), valuesIn(now)]
  return says.flatMap(([key, text]) => (had.get(key) === has.get(key) ? [] : [text]))
}

function valuesIn(object: object): Map<string, string> {
  return new Map(Object.entries(object).map(([key, value]) => [key, canonicalJson(value)]))
}
