/** Shows who did what in a site, and goes on with what happens then. */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Command, InvalidArgumentError, Option } from '@commander-js/extra-typings'

import { exitStatus } from '../errors.ts'
import { becomeOwner } from './become-owner.ts'
import { jsonOption, parseCount, stateOption } from './common-options.ts'
import { logLine } from './log-line.ts'
import { lookInLog } from './look-in-log.ts'
import { runCommand } from './run.ts'
import { findMachine } from './site-machine.ts'

interface Flags {
  state?: string | undefined
  number?: number | undefined
  since?: number | undefined
  follow?: true | undefined
  json?: true | undefined
}

/** How often a reader that follows looks for new rows. Milliseconds. */
const lookMs = 1000
const shownRows = 50

export function logCommand() {
  return new Command('log')
    .description('Show who did what, and what the server decided')
    .argument('[machine]', 'a hardware address, an IP address, or a name; default: all')
    .addOption(
      new Option(
        '-n, --number <count>',
        `only so many rows, the newest (default: ${shownRows}; with --since, all)`,
      ).argParser(parseCount),
    )
    .addOption(
      new Option(
        '--since <time>',
        'only what happened since then: 30m, 12h, 7d, 2026-11-23 or "2026-11-23 08:15"',
      ).argParser((text) => parseSince(text)),
    )
    .option('-f, --follow', 'go on with new rows until Ctrl-C')
    .addOption(stateOption)
    .option(jsonOption[0], 'print each row as JSON in a line of its own')
    .action((machine, flags) => runCommand(flags, ({ signal }) => show(machine, flags, signal)))
}

async function show(
  named: string | undefined,
  { since, follow, json, ...flags }: Flags,
  signal: AbortSignal,
): Promise<undefined> {
  const { stateDirectory } = await import('../serve/state.ts')
  const state = stateDirectory(flags.state)
  becomeOwner(state)
  const machine = named === undefined ? undefined : await findMachine(state, named)
  const newest = flags.number ?? (since === undefined ? shownRows : undefined)
  let found = await lookInLog(state, { machine, since, newest })
  if (found.rows.length === 0 && !follow && !json) await print(['nothing yet'], signal)
  await print(
    found.rows.map((row) => logLine(row, found.names, json)),
    signal,
  )
  if (found.rows.some((row) => 'broken' in row)) process.exitCode = exitStatus.untrusted
  while (follow && (await sleep(lookMs, true, { signal }).catch(() => false))) {
    const { last } = found
    found = await lookInLog(state, { machine, after: last })
    await print(
      found.rows.map((row) => logLine(row, found.names, json)),
      signal,
    )
  }
}

async function print(lines: readonly string[], signal: AbortSignal): Promise<void> {
  if (lines.length === 0) return
  if (!process.stdout.write(`${lines.join('\n')}\n`))
    await once(process.stdout, 'drain', { signal })
}

const unitMs = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** A time of day is in local time. @returns milliseconds since 1970 */
function parseSince(text: string, now = Date.now()): number {
  const [, amount, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  if (unit === 's' || unit === 'm' || unit === 'h' || unit === 'd') {
    return now - Number(amount) * unitMs[unit]
  }
  const [, date, time = '00:00'] =
    /^(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?))?$/.exec(text) ?? []
  const at = date === undefined ? Number.NaN : Date.parse(`${date}T${time}`)
  if (!Number.isNaN(at)) return at
  throw new InvalidArgumentError(
    'Give 30m, 12h or 7d, or a date: 2026-11-23 or "2026-11-23 08:15".',
  )
}
