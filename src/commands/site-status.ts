import { Command } from '@commander-js/extra-typings'

import { exitStatus, type NetimageError } from '../errors.ts'
import { plural } from '../progress.ts'
import { saysDeclaration, type Declarations } from '../site/declarations.ts'
import { machineIn } from '../site/find-machine.ts'
import type { LeftFiles } from '../site/left-files.ts'
import type { Life } from '../site/life/life.ts'
import { noRollouts, type BrokenRollout } from '../site/rollout/statements.ts'
import { groupStatuses, rolloutStatus, type GroupStatus } from '../site/rollout/status.ts'
import type { BrokenRow } from '../site/rows.ts'
import {
  shownAttempt,
  shownGeneration,
  statusInSite,
  type MachineInGroup,
  type MachineStatus,
  type ShownAttempt,
  type ShownGeneration,
} from '../site/status.ts'
import { becomeOwner } from './become-owner.ts'
import { jsonOption, stateOption } from './common-options.ts'
import { formatTime } from './format.ts'
import { runCommand, type Outcome } from './run.ts'
import { describeGroup, summaryOfGroup } from './show-rollouts.ts'
import { isGroup, rolloutOf } from './site-group.ts'

export function statusCommand() {
  return new Command('status')
    .description('Show what machines run, what they boot next, and why')
    .argument(
      '[group|machine]',
      'a group, a hardware address, an IP address, or a name; shows all that is known',
    )
    .addOption(stateOption)
    .option(...jsonOption)
    .action((machine, flags) => runCommand(flags, () => status(machine, flags.state)))
}

async function status(machine: string | undefined, named: string | undefined): Promise<Outcome> {
  const { stateDirectory } = await import('../serve/state.ts')
  const { openSiteToRead } = await import('../site/database.ts')
  const state = stateDirectory(named)
  becomeOwner(state)
  const site = openSiteToRead(state)
  try {
    const names = site?.names() ?? new Map<string, string>()
    const { groups, holds } = site?.rollouts() ?? noRollouts
    const broken: BrokenRow[] = []
    const declarations: Declarations =
      site?.declarations((error) => broken.push(error)) ?? new Map()
    const context = { names, declarations, groups, holds, uptime: site?.uptime() ?? 0 }
    const describe = (life: Life) => statusInSite(life, context)
    const show = await showImages(state)
    if (machine === undefined) {
      const all = (site?.lives((error) => broken.push(error)) ?? []).map(describe)
      const rollouts = site?.rollouts() ?? noRollouts
      broken.push(...rollouts.brokenRequests)
      const found = site ? groupStatuses(site.lifeOf, rollouts, site.uptime(), names) : []
      return withGroups(found, rollouts.broken, withBroken(all, broken), names)
    }
    if (site && isGroup(site.rollouts(), names, machine)) {
      const rollout = rolloutOf(site.rollouts(), machine)
      const shown = rolloutStatus(site.lifeOf, site.rollouts(), rollout, site.uptime(), names)
      return { text: describeGroup(shown, rollout, names).join('\n'), json: { groups: [shown] } }
    }
    const found = machineIn({ names, declarations, broken }, machine)
    const life = site?.lifeOf(found)
    if (!life || (life.generations.length === 0 && !names.has(found))) {
      const text = `${found} has not booted, and nothing is assigned to it`
      return { text, json: { machines: [] }, exitStatus: exitStatus.notFound }
    }
    const one = describe(life)
    const generations = life.generations.map(shownGeneration)
    const attempts = life.attempts.map(shownAttempt)
    const { countLeftFiles } = await import('../site/left-files.ts')
    const left = countLeftFiles(state, found)
    const lines = [
      ...summaryOf(one, left, show),
      ...historyOf({ generations, attempts }, one, show),
    ]
    return {
      text: lines.join('\n'),
      json: { machines: [{ ...one, ...left, generations, attempts }] },
    }
  } finally {
    site?.close()
  }
}

function withGroups(
  groups: readonly GroupStatus[],
  broken: readonly BrokenRollout[],
  machines: Outcome,
  names: ReadonlyMap<string, string>,
): Outcome {
  const lines = [
    ...groups.flatMap(({ shown, rollout }) => summaryOfGroup(shown, rollout, names)),
    ...broken.flatMap(saysBroken),
  ]
  return {
    ...machines,
    ...(broken.length > 0 && { exitStatus: exitStatus.untrusted }),
    text: [...lines, ...(lines.length > 0 ? [''] : []), machines.text].join('\n'),
    json: {
      ...(groups.length > 0 && { groups: groups.map(({ shown }) => shown) }),
      ...(broken.length > 0 && {
        brokenGroups: broken.map((error) => ({ group: error.group, ...shownError(error) })),
      }),
      ...machines.json,
    },
  }
}

/** A broken row must not hide the other machines. */
function withBroken(all: readonly MachineInGroup[], broken: readonly BrokenRow[]): Outcome {
  const isNone = all.length === 0 && broken.length === 0
  return {
    text: isNone ? 'no machines yet' : [inColumns(all), ...broken.flatMap(saysBroken)].join('\n'),
    json: {
      machines: all,
      ...(broken.length > 0 && {
        broken: broken.map((error) => ({ machine: error.machine, ...shownError(error) })),
      }),
    },
    ...(broken.length > 0 && { exitStatus: exitStatus.untrusted }),
  }
}

function saysBroken({ message, code, hint }: NetimageError): string[] {
  return [`${message} [${code}]`, `  ${hint}`]
}

function shownError({ code, message, hint }: NetimageError) {
  return { code, message, hint }
}

type ShowImage = (generation: ShownGeneration) => string

/** An image is shown by the beginning of its id and its name. */
async function showImages(state: string): Promise<ShowImage> {
  const { listSiteImages } = await import('../site/images/site-image.ts')
  const { shownDigits } = await import('../site/images/choose-image.ts')
  const names = new Map(listSiteImages(state, () => {}).map(({ id, name }) => [id, name]))
  return ({ image, toplevel, published }) => {
    if (published !== undefined) return toplevel
    return [image.slice(0, shownDigits), names.get(image)].filter(Boolean).join(' ')
  }
}

/** `dc:a6:32:01:02:03  pi1  1 good  up  2 trial`, with a head. */
function inColumns(all: readonly MachineInGroup[]): string {
  const hasGroups = all.some(({ group }) => group !== undefined)
  const rows = all.map(({ machine, name = '-', group = '-', held, last, next, alarms }) => [
    ...[machine, name, ...(hasGroups ? [group] : [])],
    ...(last ? [numberAndVerdict(last.generation), last.says] : ['-', 'has not booted']),
    next ? numberAndVerdict(next) : 'image of the server',
    [
      ...(held ? ['held'] : []),
      ...(alarms.length > 0 ? [plural(alarms.length, 'alarm')] : []),
    ].join(', '),
  ])
  const head = ['machine', 'name', ...(hasGroups ? ['group'] : []), 'runs', '', 'next', '']
  const table = [head, ...rows]
  const widths = table[0]?.map((_, at) => Math.max(...table.map((row) => row[at]?.length ?? 0)))
  return table
    .map((row) =>
      row
        .map((cell, at) => cell.padEnd(widths?.[at] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function numberAndVerdict({ number, verdict }: ShownGeneration): string {
  return `${number} ${verdict}`
}

function summaryOf(
  { machine, name, group, held, declared, last, next, why, stateBefore, alarms }: MachineInGroup,
  { leftFiles, layerProblem }: LeftFiles,
  show: ShowImage,
): string[] {
  const describe = (generation: ShownGeneration) =>
    `generation ${generation.number} (${show(generation)}), ${generation.verdict}`
  const left = `the last update left ${plural(leftFiles, 'file')} as the machine had them: netimage layers show ${name ?? machine}`
  return [
    name === undefined ? machine : `${name} (${machine})`,
    ...(group === undefined ? [] : [`  group  ${group}`]),
    ...(declared ? [`  has    ${saysDeclaration(declared)}`] : []),
    ...(held
      ? [`  held   since ${formatTime(held.at)}, by ${held.by}: roll-outs leave it out`]
      : []),
    `  runs   ${last ? `${describe(last.generation)}; ${last.says}` : 'nothing: it has not booted'}`,
    `  next   ${next ? describe(next) : 'the image of the server'}`,
    ...(next ? [`  why    ${why}`] : []),
    ...(stateBefore === undefined
      ? []
      : [`  state  at its next start, that from before generation ${stateBefore}`]),
    ...alarms.map((alarm) => `  alarm  ${alarm}`),
    ...(leftFiles > 0 ? [`  files  ${left}`] : []),
    ...(layerProblem === undefined ? [] : [`  files  ${layerProblem}`]),
  ]
}

const shownAttempts = 10

function historyOf(
  life: { generations: readonly ShownGeneration[]; attempts: readonly ShownAttempt[] },
  { why }: MachineStatus,
  show: ShowImage,
): string[] {
  return [
    ...life.generations.map((each) => {
      const { number, madeAt, verdict, reason } = each
      const parts = [`  generation ${number}`, formatTime(madeAt), verdict, show(each)]
      // Nobody wants to read the same reason twice.
      const isTold = reason === undefined || why.includes(reason)
      return (isTold ? parts : [...parts, reason]).join('  ')
    }),
    ...life.attempts.slice(-shownAttempts).map((each) => {
      const { number, generation, startedAt, outcome, reason, step, trouble } = each
      const parts = [
        `  attempt ${number} of generation ${generation}`,
        formatTime(startedAt),
        outcome,
      ]
      const details = reason === undefined ? [step, trouble] : [reason]
      return [...parts, ...details.filter((part) => part !== undefined)].join('  ')
    }),
  ]
}
