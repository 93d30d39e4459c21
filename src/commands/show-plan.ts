/** The text of a plan. */
import { plural } from '../progress.ts'
import { splitStorePath, nameOf } from '../nix/store-path.ts'
import { formatDuration } from '../site/desired/duration.ts'
import { saysDeclaration } from '../site/declarations.ts'
import { shownDigits } from '../site/images/choose-image.ts'
import type { ClosureDifference, PackageDifference } from '../site/plan/closure-difference.ts'
import type {
  Booted,
  Plan,
  PlannedChange,
  PlannedGroup,
  PlannedImage,
  PlannedMachine,
} from '../site/plan/planned.ts'
import { describeChecked } from './findings.ts'
import { formatBytes } from './format.ts'
import { saysList, saysMachines } from '../says-list.ts'

export function showPlan(plan: Plan): string {
  const { groups, names, notes, ends, moves, declarations } = plan
  return [
    ...groups.flatMap(showGroup),
    ...ends.map(({ group, rollout }) => {
      return `roll-out ${rollout} of ${group} is to end: the file has no machine for it`
    }),
    ...moves.flatMap(({ machine, from, to }) => {
      if (from === undefined) return []
      return `${machine} leaves group ${from}${to === undefined ? '' : ` for ${to}`}`
    }),
    ...names.map(({ machine, name, before }) => {
      return `${machine} is to be called ${name}${before === undefined ? '' : `, not ${before}`}`
    }),
    ...declarations.map(({ machine, name = machine, declared }) => {
      return `${name} is to have ${saysDeclaration(declared)}`
    }),
    ...notes.map((note) => `note: ${note}`),
    summaryOf(plan),
  ].join('\n')
}

function summaryOf({ groups, names, ends, moves, declarations, isDone, digest }: Plan): string {
  if (isDone) return 'nothing to do'
  const begun = groups.filter(({ begins }) => begins !== undefined).length
  const moved = moves.filter(({ from }) => from !== undefined).length
  const changing = groups.flatMap(({ changes }) => changes.flatMap(({ machines }) => machines))
  const refused = groups
    .flatMap(({ machines }) => machines)
    .filter(({ change }) => change === 'refused')
  const end = [
    ...(changing.length > 0 ? [`${plural(changing.length, 'machine')} to change`] : []),
    ...(refused.length > 0 ? [`${plural(refused.length, 'machine')} refused`] : []),
    ...(names.length > 0 ? [`${plural(names.length, 'name')} to give`] : []),
    ...(declarations.length > 0 ? [`${plural(declarations.length, 'machine')} to declare`] : []),
    ...(begun > 0 ? [`${plural(begun, 'roll-out')} to begin`] : []),
    ...(ends.length > 0 ? [`${plural(ends.length, 'roll-out')} to end`] : []),
    ...(moved > 0 ? [`${plural(moved, 'machine')} in another group`] : []),
  ]
  return `${end.join(', ')}; plan ${digest.slice(0, shownDigits)}`
}

function showGroup(group: PlannedGroup): string[] {
  const { name, image, changes, waves, machines, findings } = group
  const called = new Map(machines.map(({ machine, name = machine }) => [machine, name]))
  const list = (keys: readonly string[]) => saysMachines(keys, called)
  return [
    `group ${name}: ${describeImage(image)}, ${image.platform}`,
    ...changes.flatMap((change) => showChange(change, image, list(change.machines))),
    ...(changes.length === 0 ? [`  ${settled(machines)}`] : []),
    ...waves.flatMap(({ machines, pause }, at) => [
      row(`wave ${at + 1}`, list(machines)),
      ...(pause ? [row('', 'then it waits for a person')] : []),
    ]),
    row('limits', limitsOf(group)),
    ...rolloutOf(group).map((text) => row('roll-out', text)),
    ...remarksOn(machines),
    ...keptIn(group, list),
    ...(findings.length > 0 ? indent(describeChecked(findings)) : []),
  ]
}

const whyBegins: Record<NonNullable<PlannedGroup['begins']>, string> = {
  first: 'the first of the group',
  image: 'another image',
  settings: 'other settings',
  machines: 'machines boot something else',
}

function rolloutOf({ rollout, begins, changedSettings }: PlannedGroup): string[] {
  const { number, state, reason } = rollout ?? {}
  const why = reason === undefined ? '' : `: ${reason}`
  if (begins === undefined) return rollout ? [`${number} is ${state}${why}`] : []
  const after = rollout ? ` in place of ${number}, which is ${state}` : ''
  const changed = changedSettings ? ` (${changedSettings.join(', ')})` : ''
  return [`begins${after}: ${whyBegins[begins]}${changed}`]
}

function settled(machines: readonly PlannedMachine[]): string {
  const booting = machines.filter(({ change }) => change === 'nothing').length
  return `${plural(booting, 'machine')} ${booting === 1 ? 'boots' : 'boot'} this already`
}

function showChange(
  { machines, from, difference }: PlannedChange,
  image: PlannedImage,
  names: string,
): string[] {
  const count = plural(machines.length, 'machine')
  if (!from) return [`  ${count} without a generation: ${names}`]
  const kernel = kernelChange(from, image)
  return [
    `  ${count} from ${describeBooted(from)}: ${names}`,
    ...(kernel === undefined ? [] : [row('kernel', kernel)]),
    ...(difference ? showDifference(difference) : []),
  ]
}

function describeImage({ id, name, label }: Pick<PlannedImage, 'id' | 'name' | 'label'>): string {
  return `image ${id.slice(0, shownDigits)} ${name} (${label})`
}

function describeBooted({ image, toplevel, isOwn, name, label }: Booted): string {
  if (isOwn) return `their own system ${toplevel}`
  if (name === undefined || label === undefined) {
    return `image ${image.slice(0, shownDigits)}, which the site does not have any more`
  }
  return describeImage({ id: image, name, label })
}

function kernelChange({ kernel }: Booted, image: PlannedImage): string | undefined {
  if (kernel === undefined || kernel === image.kernel) return undefined
  const [before, after] = [kernelName(kernel), kernelName(image.kernel)]
  return before === after ? `${after}, built anew` : `${before} → ${after}`
}

function kernelName(path: string): string {
  const split = splitStorePath(path)
  return split ? nameOf(split.storePath) : path
}

/** The packages that are named. The others are counted. */
const mostShown = 40

function showDifference({ packages, added, removed }: ClosureDifference): string[] {
  const count = (kind: PackageDifference['kind']) =>
    packages.filter((each) => each.kind === kind).length
  const named = packages.filter(({ kind }) => kind !== 'rebuilt')
  const left = named.length - mostShown
  return [
    row(
      'packages',
      `${count('version')} in another version, ${count('added')} new, ${count('removed')} gone, ${count('rebuilt')} built anew`,
    ),
    row(
      'bytes',
      `adds ${formatBytes(added.bytes)} in ${plural(added.paths, 'new store path')}; removes ${formatBytes(removed.bytes)} in ${plural(removed.paths, 'store path')}`,
    ),
    ...named.slice(0, mostShown).map((each) => `      ${describePackage(each)}`),
    ...(left > 0 ? [`      … and ${plural(left, 'more package')}: see --json`] : []),
  ]
}

function describePackage({ name, kind, before, after, bytes }: PackageDifference): string {
  const versions = (all: readonly string[]) =>
    all.map((each) => each || 'without a version').join(', ')
  const size = `${bytes < 0 ? '−' : '+'}${formatBytes(Math.abs(bytes))}`
  if (kind === 'added') return `${name} ${versions(after)}: new, ${size}`
  if (kind === 'removed') return `${name} ${versions(before)}: gone, ${size}`
  return `${name} ${versions(before)} → ${versions(after)}, ${size}`
}

function limitsOf({ maxUnavailable, halt, health, rebuild, keep }: PlannedGroup): string {
  const { tries, deadline, settle, tcp } = health
  const up = `up within ${formatDuration(deadline)} in ${plural(tries, 'try', 'tries')}, and for ${formatDuration(settle)}`
  return [
    `${maxUnavailable} booting at once`,
    `${plural(halt, 'bad machine')} to halt`,
    tcp.length > 0 ? `${up}, with port ${tcp.join(', ')} open` : up,
    `keeps ${plural(keep, 'good generation')}`,
    ...(rebuild === 'refuse' ? ['machines may not rebuild'] : []),
  ].join('; ')
}

const dayMs = 24 * 3_600_000

function remarksOn(machines: readonly PlannedMachine[]): string[] {
  const own = machines.flatMap(({ machine, name = machine, replacesOwn }) =>
    replacesOwn === undefined ? [] : [`${name} (${replacesOwn})`],
  )
  const unseen = machines.flatMap(({ machine, name = machine, away }) => {
    if (away === undefined) return []
    const time = away === 'never seen' ? 'never' : `for ${plural(Math.floor(away / dayMs), 'day')}`
    return [`${name} (${time})`]
  })
  const held = machines.flatMap(({ machine, name = machine, isHeld }) => (isHeld ? [name] : []))
  return [
    ...machines.flatMap((machine) => refusalOf(machine) ?? []),
    ...(own.length > 0 ? [row('replaced', `systems that machines built: ${saysList(own)}`)] : []),
    ...(unseen.length > 0 ? [row('unseen', saysList(unseen))] : []),
    ...(held.length > 0 ? [row('held', saysList(held))] : []),
  ]
}

function refusalOf({ machine, name = machine, refused }: PlannedMachine): string | undefined {
  if (!refused) return undefined
  const { generation, reason } = refused
  const why = reason === undefined ? '' : `: ${reason}`
  const isGood = `If it is good after all: netimage site good ${machine} ${generation}`
  return row('refused', `by ${name}, where it was bad as generation ${generation}${why}. ${isGood}`)
}

/** The files that machines keep. The others are counted. */
const mostKept = 20

/** Many machines keep the same files. */
function keptIn({ kept }: PlannedGroup, list: (machines: readonly string[]) => string): string[] {
  const files = kept.flatMap((each) => {
    if ('problem' in each) return []
    const { machine } = each
    return each.files.map(({ path, why }) => ({ machine, file: `${path} (${why})` }))
  })
  const alike = [...Map.groupBy(files, ({ file }) => file)]
  const notNamed = kept.reduce((sum, each) => sum + ('more' in each ? each.more : 0), 0)
  const left = Math.max(0, alike.length - mostKept) + notNamed
  return [
    ...alike
      .slice(0, mostKept)
      .map(([file, on]) => row('kept', `${file} on ${list(on.map(({ machine }) => machine))}`)),
    ...(left > 0 ? [row('', `… and ${plural(left, 'more file')}: see --json`)] : []),
    ...kept.flatMap((each) =>
      'problem' in each
        ? [row('kept', `not known for ${list([each.machine])}: ${each.problem}`)]
        : [],
    ),
  ]
}

function row(label: string, text: string): string {
  return `    ${label.padEnd(8)}  ${text}`
}

function indent(text: string): string[] {
  return text.split('\n').map((line) => (line === '' ? '' : `    ${line}`))
}
