import { Command } from '@commander-js/extra-typings'

import type { Boot } from '../boots/follow.ts'
import { visible } from '../printable.ts'
import { plural } from '../progress.ts'
import { jsonOption, parseCount, stateOption } from './common-options.ts'
import { formatBytes, formatSeconds, formatTime } from './format.ts'
import { runCommand, type Outcome } from './run.ts'
import { findMachine } from './site-machine.ts'

export function bootsCommand() {
  return new Command('boots')
    .description('Show the boots that `netimage serve` has seen')
    .argument(
      '[machine]',
      'a hardware address, an IP address, or a name; shows its last boot step by step',
    )
    .addOption(stateOption)
    .option('-n, --number <count>', 'how many boots to show, the newest first', parseCount, 20)
    .option(...jsonOption)
    .action((machine, flags) => runCommand(flags, () => boots(machine, flags)))
}

async function boots(
  named: string | undefined,
  flags: { state?: string | undefined; number: number },
): Promise<Outcome> {
  const { stateDirectory } = await import('../serve/state.ts')
  const { findBoots } = await import('../boots/read.ts')
  const state = stateDirectory(flags.state)
  const machine = named === undefined ? undefined : await findMachine(state, named)
  const found = findBoots(state, machine, flags.number)
  const { boots, broken = 0, events } = found
  const [last] = boots
  const lines = boots.map(describeBoot)
  if (lines.length === 0) {
    lines.push(machine === undefined ? 'no boots yet' : `no boots of ${machine} yet`)
  }
  if (broken > 0) lines.push(`could not read ${plural(broken, 'boot')}: left out`)
  if (last && events) {
    lines.push(
      '',
      ...events.map(({ at, event }) => `${since(at - last.started)}  ${inLine(event)}`),
    )
  }
  return { text: lines.map(visible).join('\n'), json: found }
}

/** `dc:a6:32:01:02:03  2026-11-23 08:15:00  registered  dhcp 0.0 s, loader 0.4 s, …` */
function describeBoot(boot: Boot): string {
  const reached = boot.steps[boot.step] === undefined ? '-' : boot.step
  const steps = Object.entries(boot.steps).map(
    ([step, at]) => `${step} ${since(at - boot.started)}`,
  )
  const parts = [
    boot.machine,
    formatTime(boot.started),
    reached,
    steps.join(', '),
    formatBytes(boot.bytes),
  ]
  return [...parts, ...(boot.trouble === undefined ? [] : [boot.trouble])].join('  ')
}

function since(milliseconds: number): string {
  return formatSeconds(milliseconds / 1000)
}

function inLine(event: unknown): string {
  if (typeof event !== 'object' || event === null) return String(event)
  const { kind, step, ...rest } = { kind: '', step: '', ...event }
  const details = Object.entries(rest).map(([name, value]) => `${name}=${String(value)}`)
  return [`${kind} ${step}`, ...details].join(' ')
}
