/** Decides which machines are asked to restart, and how. What becomes of that: see restart-commands.ts. */
import { say, seen, standsOf, type Draft } from './draft.ts'
import type { RestartRequest, Restart, Rollout } from './rollout.ts'
import { holdsSlot, lastBooted, standOf, unanswered, wantsRestart } from './stand.ts'
import type { Stand } from './stands.ts'

/** Asks machines to restart while there are slots. Those that hang come first. */
export function requestRestarts(draft: Draft): void {
  const { rollout, members } = draft
  const names = [...members.keys()]
  const stands = standsOf(draft, names)
  const hanging = names.filter((each) => isHanging(stands.get(each)))
  const others = names.filter((each) => stands.get(each) === 'assigned')
  // A machine that boots something else is asked when it is up.
  const busy = new Set(names.filter((each) => holdsSlot(seen(draft, each))))
  for (const machine of [...hanging, ...others]) {
    if (busy.size >= rollout.maxUnavailable) return
    const kind = restartNow(draft, machine)
    if (!kind || busy.has(machine)) continue
    draft.requests.set(machine, newRequest(draft, machine, kind))
    say(draft, says[kind], machine)
    busy.add(machine)
  }
}

const says = {
  reboot: 'asks it to restart',
  itself: 'lets it restart itself',
  power: 'switches its power',
} as const satisfies Record<Restart, string>

/** With what the roll-out asks the machine to restart now, if there is a slot for it. In a pause, none is asked. */
export function restartNow(draft: Draft, machine: string): Restart | undefined {
  if (draft.rollout.state === 'paused') return undefined
  const each = seen(draft, machine)
  return isHanging(standOf(each)) || mayGoOn(draft.rollout) ? wantsRestart(each) : undefined
}

function mayGoOn({ state }: Rollout): boolean {
  return state === 'running' || state === 'done'
}

function newRequest(draft: Draft, machine: string, kind: Restart): RestartRequest {
  const { number, group } = draft.rollout
  const last = unanswered(seen(draft, machine))
  const { uptime } = draft.now
  return {
    ...{ rollout: number, group, kind, uptime, command: 'due' },
    attempt: lastBooted(seen(draft, machine).life)?.number ?? 0,
    times: (last?.times ?? 0) + 1,
    ...(last && { before: last }),
  }
}

/** Some of these do not come back by themselves. */
function isHanging(stand: Stand | undefined): boolean {
  return stand === 'bad' || stand === 'waiting' || stand === 'lost'
}
