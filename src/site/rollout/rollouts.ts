/** All roll-outs of a site: a new one, and the next step of each. Each function is called in one transaction. */
import type { NetimageError } from '../../errors.ts'
import { newLife, type Life, type Now } from '../life/life.ts'
import { BrokenRow } from '../rows.ts'
import type { SiteWriter } from '../statements.ts'
import { replaceBrokenRequests } from './broken-requests.ts'
import { draftOf, seen, type Machines } from './draft.ts'
import { noted, withoutUntried } from './give.ts'
import { restartNow } from './request-restarts.ts'
import {
  newRollout,
  type RestartRequest,
  type RestartCommands,
  type Rollout,
  type RolloutSettings,
  type RolloutTold,
} from './rollout.ts'
import { isNot, type NotNow } from './pause-resume.ts'
import { mayRestartItself, standOf, type Seen } from './stand.ts'
import type { Stand } from './stands.ts'
import type { BrokenRollout, RolloutWriter, SiteRollouts } from './statements.ts'
import { step, takenBack } from './step.ts'

/** A restart that is to be done now. */
export interface DueRestart {
  rollout: Rollout
  machine: string
  kind: keyof RestartCommands
  command: readonly string[]
}

export interface SteppedAll {
  restarts: readonly DueRestart[]
  told: readonly RolloutTold[]
  /** Whether there is more to do now. */
  isUnfinished: boolean
}

/** What steps read and write of a site. */
export interface SteppedSite {
  of: (machine: string) => Life
  keep: (life: Life) => void
  rollouts: Pick<RolloutWriter, 'read' | 'keep' | 'setRequest'>
}

/**
 * A roll-out that ran for the same group does not go on, and its machines that have not tried its image boot
 * what they booted before, until the new roll-out comes to them.
 *
 * @param restart by machine; a machine without one is restarted by people
 */
export function beginRollout(
  writer: Pick<SiteWriter, 'of' | 'keep' | 'rollouts'>,
  settings: RolloutSettings,
  restart: ReadonlyMap<string, RestartCommands>,
  now: Now,
): Rollout {
  const read = writer.rollouts.read()
  const old = read.newest.find(({ group }) => group === settings.group)
  const broken = read.broken.find(({ group }) => group === settings.group)
  if (broken) takeBrokenBack(writer, broken)
  if (old) {
    const rollout = old.state === 'done' ? old : takeAllBack(writer, read, old, now)
    writer.rollouts.keep({ ...rollout, state: 'replaced' })
  }
  const begun = newRollout(writer.rollouts.nextNumber(), now.at, settings, restart)
  writer.rollouts.keep(begun)
  return begun
}

/** As a halt, and it does not go on: machines that have not tried its image boot at once what they booted before. */
export function abortRollout(
  writer: Pick<SiteWriter, 'of' | 'keep' | 'rollouts'>,
  rollout: Rollout,
  reason: string,
  now: Now,
): Rollout | NotNow {
  if (rollout.state === 'aborted' || rollout.state === 'replaced') return isNot(rollout)
  const back = takeAllBack(writer, writer.rollouts.read(), rollout, now)
  const aborted: Rollout = { ...back, state: 'aborted', reason }
  writer.rollouts.keep(aborted)
  return aborted
}

function takeAllBack(
  writer: Pick<SiteWriter, 'of' | 'keep'>,
  read: SiteRollouts,
  old: Rollout,
  now: Now,
): Rollout {
  const { rollout, lives } = takenBack(old, machinesOf(writer, read, old), now)
  for (const life of lives) writer.keep(life)
  return rollout
}

/**
 * A broken roll-out does not go on any more. Otherwise machines would go back to an image that they have never
 * tried, if a new roll-out halts, or boot it if there is none.
 */
export function takeBrokenBack(
  { of, keep }: Pick<SiteWriter, 'of' | 'keep'>,
  { machines }: BrokenRollout,
): void {
  for (const [machine, { given }] of machines) {
    const life = ifWhole(
      () => of(machine),
      () => {},
    )
    const back = life && given && withoutUntried(life, given)
    if (back && back !== life) keep(back)
  }
}

/** @param onBroken is told about rows that are broken; all others go on */
export function stepRollouts(
  site: SteppedSite,
  now: Now,
  onBroken: (error: NetimageError) => void,
): SteppedAll {
  const found = site.rollouts.read()
  for (const error of [...found.broken, ...found.brokenRequests]) onBroken(error)
  const { read, told } = replaceBrokenRequests(
    found,
    (machine) => ifWhole(() => site.of(machine), onBroken),
    site.rollouts.setRequest,
    now,
  )
  const all = read.newest.map((before) => {
    const machines = machinesOf(site, read, before, onBroken)
    const { rollout, lives, requests, told, isUnfinished } = step(before, machines, now)
    for (const life of lives) site.keep(life)
    if (rollout !== before) site.rollouts.keep(rollout)
    const restarts = [...requests].flatMap(([machine, request]) => {
      site.rollouts.setRequest(machine, request)
      const { kind } = request
      if (kind === 'itself') return []
      const command = rollout.machines[machine]?.restart?.[kind]
      return command ? [{ rollout, machine, kind, command }] : []
    })
    return { restarts, told, isUnfinished }
  })
  return {
    restarts: all.flatMap(({ restarts }) => restarts),
    told: [...told, ...all.flatMap((each) => each.told)],
    isUnfinished: all.some((each) => each.isUnfinished),
  }
}

/**
 * To be called before a person calls a generation of the machine good. It may have been bad for so short a time
 * that no step has seen it.
 */
export function noteBadOn(
  { of, rollouts }: Pick<SiteWriter, 'of' | 'rollouts'>,
  machine: string,
): void {
  for (const rollout of rollouts.read().newest) {
    const member = rollout.machines[machine]
    if (!member) continue
    const machines = { ...rollout.machines, [machine]: noted(member, of(machine)) }
    rollouts.keep({ ...rollout, machines })
  }
}

/** How each machine of the roll-out stands. */
export function standsIn(
  reader: Pick<SiteWriter, 'of'>,
  read: SiteRollouts,
  rollout: Rollout,
  now: Now,
): Map<string, Stand> {
  const all = seenIn(reader, read, rollout, now)
  return new Map([...all].map(([machine, each]) => [machine, standOf(each)]))
}

/** Each machine of the roll-out, as its next step sees it. */
export function seenIn(
  reader: Pick<SiteWriter, 'of'>,
  read: SiteRollouts,
  rollout: Rollout,
  now: Now,
): Map<string, Seen> {
  const draft = draftOf(rollout, machinesOf(reader, read, rollout), now)
  return new Map([...draft.members.keys()].map((machine) => [machine, seen(draft, machine)]))
}

/** Whether the roll-out that asked the machine would ask the same now. */
export function isStillWanted(
  site: Pick<SteppedSite, 'of'> & { rollouts: Pick<RolloutWriter, 'read'> },
  machine: string,
  { rollout: number, kind, before }: RestartRequest,
  now: Now,
): boolean {
  const read = site.rollouts.read()
  const rollout = read.newest.find((each) => each.number === number)
  if (!rollout) return false
  const machines = { ...machinesOf(site, read, rollout), requestOf: () => before }
  return restartNow(draftOf(rollout, machines, now), machine) === kind
}

/** Whether a machine that asks may restart itself now. */
export function mayRestart(
  reader: Pick<SiteWriter, 'of'>,
  read: SiteRollouts,
  machine: string,
  now: Now,
): boolean {
  const request = read.requests.get(machine)
  const rollout = read.newest.find(({ number }) => number === request?.rollout)
  if (!request || !rollout) return false
  const machines = machinesOf(reader, read, rollout)
  const has = mayRestartItself(seen(draftOf(rollout, machines, now), machine))
  const rollouts = { read: () => read }
  return has && isStillWanted({ of: reader.of, rollouts }, machine, request, now)
}

/** Each life is read once. */
function machinesOf(
  { of }: Pick<SiteWriter, 'of'>,
  { holds, groups, requests, brokenRequests, readiness }: SiteRollouts,
  { group }: Rollout,
  onBroken: (error: BrokenRow) => void = () => {},
): Machines {
  const lives = new Map<string, Life | undefined>()
  const unclear = new Set(brokenRequests.map(({ machine }) => machine))
  function read(machine: string): Life | undefined {
    if (!lives.has(machine))
      lives.set(
        machine,
        ifWhole(() => of(machine), onBroken),
      )
    return lives.get(machine)
  }
  return {
    lifeOf: (machine) => read(machine) ?? newLife(machine),
    leftOut(machine) {
      if (holds.has(machine)) return 'held'
      if (groups.get(machine) !== group) return 'moved'
      return read(machine) && !unclear.has(machine) ? undefined : 'broken'
    },
    requestOf: (machine) => requests.get(machine),
    readinessOf: (machine) => readiness.get(machine),
  }
}

function ifWhole(read: () => Life, onBroken: (error: BrokenRow) => void): Life | undefined {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof BrokenRow)) throw error
    onBroken(error)
    return undefined
  }
}
