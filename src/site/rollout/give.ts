/** Gives the image of a roll-out to machines, and takes it back from those that have not tried it. */
import { plural } from '../../progress.ts'
import { assign } from '../life/choose.ts'
import { withGeneration } from '../life/kept.ts'
import { generationOf, type Generation, type Life } from '../life/life.ts'
import { beforeOf, hasTried, takeBack } from '../life/take-back.ts'
import { isFull, say, seen, type Draft } from './draft.ts'
import type { Given, Health, RolloutMachine } from './rollout.ts'
import { lastBooted, standOf } from './stand.ts'

export function takeBackAll(draft: Draft): void {
  let count = 0
  for (const machine of draft.members.keys()) {
    if (isFull(draft)) break
    if (takeBackOne(draft, machine)) count++
  }
  if (count === 0) return
  const have = count === 1 ? 'has' : 'have'
  say(draft, `takes the image back from ${plural(count, 'machine')} that ${have} not tried it`)
}

/** @returns whether the machine was given the image, and has not tried it */
export function takeBackOne(draft: Draft, machine: string): boolean {
  const { member, life } = seen(draft, machine)
  const { given, ...rest } = member
  const back = given && withoutUntried(life, given)
  if (!back) return false
  draft.members.set(machine, rest)
  if (back !== life) draft.lives.set(machine, back)
  return true
}

/** The life of a machine from which the image is taken back. Undefined: it has tried the image. */
export function withoutUntried(life: Life, given: Given): Life | undefined {
  return isUntried(life, given) ? takeBack(life, given.generation, given.before) : undefined
}

function isUntried(life: Life, { generation: number, after, before }: Given): boolean {
  if (hasTried(life, number, after)) return false
  const verdict = generationOf(life, number)?.verdict
  // A good generation that it was to boot already is not taken from it.
  const isBack = verdict === 'good' && after !== undefined && before.current !== number
  return verdict === 'trial' || isBack
}

/** Notes where the image is bad, so that a machine on which a person then calls it good is given it again. */
export function noteBad({ members, lives, machines }: Draft): void {
  for (const [machine, member] of members) {
    members.set(machine, noted(member, lives.get(machine) ?? machines.lifeOf(machine)))
  }
}

/** As `noteBad`, for one machine. */
export function noted(member: RolloutMachine, life: Life): RolloutMachine {
  const { refused, ...rest } = member
  const generation = generationOf(life, rest.given?.generation)
  if (!generation) return member
  const { number, verdict } = generation
  const isNoted = refused === number
  if (verdict === 'bad') return isNoted ? member : { ...rest, refused: number }
  return isNoted && life.current === number ? rest : member
}

/** Gives the image to the machines of all waves that have begun. */
export function assignBegun(draft: Draft): void {
  const { waves, wave } = draft.rollout
  for (const machine of waves.slice(0, wave + 1).flatMap(({ machines }) => machines)) {
    if (isFull(draft)) return
    const stand = standOf(seen(draft, machine))
    if (stand === 'pending' || stand === 'refused') assignOne(draft, machine)
  }
}

function assignOne(draft: Draft, machine: string): void {
  const { rollout, now } = draft
  const { member, life } = seen(draft, machine)
  const result = assign(life, rollout.candidate, now, 'person')
  if ('refused' in result) {
    const { number } = result.refused
    if (member.refused === number) return
    draft.members.set(machine, { ...member, refused: number })
    say(draft, `leaves the machine out: the image was bad on it as generation ${number}`, machine)
    return
  }
  const { refused: _, ...rest } = member
  const { number } = result.generation
  const last = lastBooted(life)
  const isToBoot = result.generation.verdict === 'good' && last?.generation !== number
  const given: Given = {
    ...{ generation: number, from: now.uptime, before: beforeOf(life) },
    ...(isToBoot && { after: last?.number ?? 0 }),
  }
  draft.members.set(machine, { ...rest, given })
  const next = withPolicy(result.life, result.generation, rollout.health)
  draft.lives.set(machine, { ...next, keep: rollout.keep })
}

function withPolicy(life: Life, generation: Generation, { tcp, ...health }: Health): Life {
  if (generation.verdict !== 'trial') return life
  const policy = tcp.length > 0 ? { ...health, tcp } : health
  return withGeneration(life, { ...generation, policy })
}
