/** Waits for roll-outs, and tells what happens to them. */
import { setTimeout as sleep } from 'node:timers/promises'

import { NetimageError } from '../errors.ts'
import { printableJson, visible } from '../printable.ts'
import { openSiteToRead } from '../site/database.ts'
import type { LogRow } from '../site/log/rows.ts'
import { newestOf } from '../site/rollout/statements.ts'
import { rolloutStatus, saysStands, type RolloutStatus } from '../site/rollout/status.ts'
import { logLine } from './log-line.ts'
import { printLine, type Surroundings } from './run.ts'

interface Followed {
  group: string
  number: number
}

interface FollowSettings {
  json: true | undefined
  around: Surroundings
}

/** A roll-out of which the site knows nothing more, because its group has a newer one. */
interface Replaced extends Pick<RolloutStatus, 'group' | 'rollout'> {
  state: 'replaced'
}

type Shown = RolloutStatus | Replaced

/** How often it looks. Milliseconds. */
const lookMs = 1000
const eraseLine = '\r\u001B[K'

/** @returns whether all roll-outs are done @throws `NetimageError` `interrupted` */
export async function followRollouts(
  state: string,
  followed: readonly Followed[],
  { json, around: { signal } }: FollowSettings,
): Promise<boolean> {
  const isTerminal = process.stdout.isTTY && !json
  let last = 0
  let shown = ''

  function tell(line: string): void {
    printLine(isTerminal ? `${eraseLine}${line}` : line)
  }

  for (let isFirst = true; ; isFirst = false) {
    const { rows, statuses, newest, names } = look(state, followed, last)
    last = newest
    if (!isFirst) for (const row of rows) tell(logLine(row, names, json))
    const ended = statuses.every(({ state }) => state !== 'running' && state !== 'paused')
    const line = statuses.map(saysStatus).join('; ')
    if (ended) {
      if (json) tell(printableJson({ rollouts: statuses }))
      else for (const status of statuses) tell(visible(saysStatus(status)))
      return statuses.every(({ state }) => state === 'done')
    }
    if (isTerminal) {
      process.stdout.write(`${eraseLine}${visible(line).slice(0, process.stdout.columns - 1)}`)
    } else if (line !== shown && !json) tell(visible(line))
    shown = line
    if (!(await sleep(lookMs, true, { signal }).catch(() => false))) throw stopped(followed)
  }
}

interface Look {
  rows: LogRow[]
  statuses: Shown[]
  newest: number
  names: ReadonlyMap<string, string>
}

/** Opens the site each time, because it may be replaced by a copy of it. */
function look(state: string, followed: readonly Followed[], after: number): Look {
  const site = openSiteToRead(state)
  if (!site) return { rows: [], statuses: [], newest: 0, names: new Map() }
  try {
    const numbers = new Set(followed.map(({ number }) => number))
    const log = site.log({ after, ...(after === 0 && { newest: 0 }) })
    const rollouts = site.rollouts()
    const [uptime, names] = [site.uptime(), site.names()]
    return {
      rows: log.rows.flatMap((row) => {
        if (!('entry' in row) || !('rollout' in row.entry)) return []
        return numbers.has(row.entry.rollout) ? [row] : []
      }),
      statuses: followed.map(({ group, number }): Shown => {
        const found = newestOf(rollouts, group)
        if (found?.number === number) {
          return rolloutStatus(site.lifeOf, rollouts, found, uptime, names)
        }
        return { group, rollout: number, state: 'replaced' }
      }),
      newest: log.last,
      names,
    }
  } finally {
    site.close()
  }
}

function saysStatus(status: Shown): string {
  const { rollout, group, state } = status
  const is = `roll-out ${rollout} of ${group} is ${state}`
  if (!('wave' in status)) return is
  const { reason } = status
  return `${is}${reason === undefined ? '' : `: ${reason}`}; ${saysStands(status)}`
}

function stopped(followed: readonly Followed[]): NetimageError {
  const [first] = followed
  return new NetimageError('interrupted', 'stopped waiting; the roll-outs go on', {
    hint: `Look at them: netimage site status. Stop one: netimage site abort ${first?.group ?? 'GROUP'}.`,
  })
}
