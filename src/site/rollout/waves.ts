/** Decides when a wave has ended, when a roll-out is done, and when it halts. */
import { plural } from '../../progress.ts'
import { generationOf } from '../life/life.ts'
import { hasTried } from '../life/take-back.ts'
import { say, seen, standsOf, type Draft } from './draft.ts'
import { badIn, halted, limitOf, unhalted } from './halt.ts'
import { tell, type Rollout } from './rollout.ts'
import { wantsRestart } from './stand.ts'
import { countStands, inWave, saysCounts, type Stand } from './stands.ts'

/**
 * Halts when too many machines are bad. A halt that verdicts of a power cut caused ends when these are taken
 * back. No other halt ends by itself: a person resumes.
 */
export function haltOrGoOn(draft: Draft): void {
  const { rollout } = draft
  const stands = standsOf(draft, draft.members.keys())
  const bad = badIn(stands)
  const isTooMany = bad.length >= limitOf(rollout, stands)
  if (rollout.state === 'halted') {
    const { haltedBy = [] } = rollout
    const others = haltedBy.filter((machine) => !bad.includes(machine))
    if (isTooMany || others.length === 0 || !others.every((each) => isBack(draft, each))) return
    draft.rollout = unhalted(rollout)
    say(draft, `${saysAgain(draft.rollout)}: a power cut had made the machines bad that halted it`)
  } else if (isTooMany && rollout.state !== 'aborted') {
    draft.rollout = halted(rollout, bad)
    draft.told.push({ ...tell(rollout, 'halts'), bad })
  }
}

function saysAgain({ state }: Rollout): string {
  return state === 'running' ? 'goes on' : `is ${state} again`
}

/** Whether its bad verdict was taken back. Only a power cut puts what was bad on trial again. */
function isBack(draft: Draft, machine: string): boolean {
  const { member, life, leftOut } = seen(draft, machine)
  return !leftOut && generationOf(life, member.given?.generation)?.verdict === 'trial'
}

export function endWave(draft: Draft): void {
  const { rollout } = draft
  const { waves, wave } = rollout
  if (rollout.state === 'done') return
  if (wave + 1 >= waves.length) {
    if (!isDone(draft)) return
    draft.rollout = { ...rollout, state: 'done' }
    say(draft, `is done${leftToDo(standsOf(draft, draft.members.keys()))}`)
    return
  }
  const end = endOf(draft, waves[wave]?.machines ?? [])
  if (!end) return
  const next = plural(waves[wave + 1]?.machines.length ?? 0, 'machine')
  if (waves[wave]?.pause || end === 'refused') {
    const what = end === 'refused' ? 'was not tried, because the image was bad before' : 'has ended'
    const reason = `wave ${wave + 1} ${what}, and the next one waits for a person`
    draft.rollout = { ...rollout, wave: wave + 1, state: 'paused', reason }
    say(draft, `pauses: ${reason}`)
  } else {
    draft.rollout = { ...rollout, wave: wave + 1 }
    say(draft, `begins wave ${wave + 2}: ${next}`)
  }
}

/**
 * Whether the wave has ended. Machines that are away or left out hold up no wave. One that has tried the image
 * and is not good does, until a person holds it.
 *
 * @returns `refused` if no machine can try the image, and not only because people decided so
 */
function endOf(draft: Draft, names: readonly string[]): 'ended' | 'refused' | undefined {
  const stands = standsOf(draft, names)
  const all = [...stands.values()]
  const isBusy = [...stands].some(([machine, stand]) => {
    const meaning = inWave(stand)
    if (meaning !== 'may try') return meaning === 'holds it up'
    const { member, life } = seen(draft, machine)
    const { generation = 0, after } = member.given ?? {}
    const isTried = hasTried(life, generation, after)
    const isComing = stand === 'assigned' && wantsRestart(seen(draft, machine)) !== undefined
    return isTried || isComing
  })
  if (isBusy) return undefined
  if (all.includes('good')) return 'ended'
  if (!all.every(isOut)) return undefined
  return all.includes('refused') ? 'refused' : 'ended'
}

function isOut(stand: Stand): boolean {
  return inWave(stand) === 'is out'
}

/** After the last wave, nothing is left to protect: all machines that are there have tried. */
function isDone(draft: Draft): boolean {
  const stands = new Set(standsOf(draft, draft.members.keys()).values())
  const open = ['pending', 'assigned', 'asked', 'booting'] as const
  if (open.some((each) => stands.has(each))) return false
  return stands.has('good') || stands.has('bad') || [...stands].every(isOut)
}

function leftToDo(stands: ReadonlyMap<string, Stand>): string {
  const others = saysCounts(countStands([...stands.values()].filter((stand) => stand !== 'good')))
  return others === '' ? '' : `, ${others}`
}
