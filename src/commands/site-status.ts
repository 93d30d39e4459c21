import { Command } from '@commander-js/extra-typings'

import { exitStatus } from '../errors.ts'
import type { Generation, Life } from '../site/life/life.ts'
import { statusOf, type MachineStatus } from '../site/status.ts'
import { becomeOwner } from './become-owner.ts'
import { formatTime } from './format.ts'
import { runCommand, type Outcome } from './run.ts'
import { machineIn } from './site-machine.ts'
import { stateOption } from './state-option.ts'

export function statusCommand() {
  return new Command('status')
    .description('Show what machines run, what they boot next, and why')
    .argument('[machine]', 'a hardware address, an IP address, or a name; shows all that is known')
    .addOption(stateOption)
    .option('--json', 'print the result as JSON')
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
    const show = await showImages(state)
    if (machine === undefined) {
      const all = (site?.lives() ?? []).map((life) => statusOf(life, names.get(life.machine)))
      const text = all.map((each) => inLine(each, show)).join('\n')
      return { text: text || 'no machines yet', json: { machines: all } }
    }
    const found = machineIn(names, machine)
    const life = site?.lifeOf(found)
    if (!life || (life.generations.length === 0 && !names.has(found))) {
      const text = `${found} has not booted, and nothing is assigned to it`
      return { text, json: { machines: [] }, exitStatus: exitStatus.notFound }
    }
    const one = statusOf(life, names.get(found))
    const { generations, attempts } = life
    return {
      text: [inLine(one, show), ...inDetail(life, show)].join('\n'),
      json: { machines: [{ ...one, generations, attempts }] },
    }
  } finally {
    site?.close()
  }
}

type ShowImage = (generation: Generation) => string

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

/** `dc:a6:32:01:02:03  pi1  generation 1 (00ff00ff00ff pi) good: up  next: generation 2 (…): in trial` */
function inLine(
  { machine, name = '-', last, next, why, alarms }: MachineStatus,
  show: ShowImage,
): string {
  const runs = last
    ? `generation ${last.generation.number} (${show(last.generation)}) ${last.generation.verdict}: ${last.says}`
    : 'has not booted'
  const what = next ? `next: generation ${next.number} (${show(next)}): ${why}` : `next: ${why}`
  return [machine, name, runs, what, ...alarms.map((alarm) => `ALARM: ${alarm}`)].join('  ')
}

const shownAttempts = 10

function inDetail({ generations, attempts }: Life, show: ShowImage): string[] {
  return [
    ...generations.map((each) =>
      [
        `  generation ${each.number}  ${formatTime(each.madeAt)}  ${each.verdict}  ${show(each)}`,
        ...(each.reason === undefined ? [] : [each.reason]),
      ].join('  '),
    ),
    ...attempts.slice(-shownAttempts).map((each) => {
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
