// Machines that are updated again and again, with a clock of their own. Their server is a process that
// kills itself at random steps of its work.

import assert from 'node:assert/strict'
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { openSiteDatabase } from '../../../src/site/database.ts'
import { randomOf } from '../../support/random.ts'
import { waitFor } from '../../support/waiting.ts'
import type { Does, Fleet, Heard, Wish, World } from './fleet-boot.ts'
import { simulateMachine } from './fleet-machine.ts'
import type { Answer, Asked, Told } from './fleet-server.ts'

export interface FleetSettings {
  state: string
  seed: number
  /** One round of questions in this many makes the server kill itself soon. Undefined: none. */
  killOneIn?: number
  /** Default: one without protocols and images. With the same settings, each of its runs is the same. */
  fleet?: Fleet & { start: () => FleetServer }
}

/** A process. It begins to serve when it is asked the first time. */
export interface FleetServer {
  /** @returns the answers that came before the server had done all, or was killed */
  ask(asked: Asked): Promise<{ answers: Answer[]; wasKilled: boolean }>
  end(): Promise<void>
}

const program = join(import.meta.dirname, 'fleet-server.ts')
const second = 1000
/** The server looks at its clock at least this often. */
const tickMs = 30 * second

export interface UpdatesSettings extends FleetSettings {
  machines: number
  /** How many updates each machine gets. */
  updates: number
}

export async function updateFleet({ machines, updates, ...settings }: UpdatesSettings) {
  const { seed } = settings
  return await runFleet(settings, (world) =>
    Array.from({ length: machines }, (_, index) =>
      simulateMachine({ world, index, updates, seed }),
    ),
  )
}

/** @param livesIn what happens in the world, until all of it has ended */
export async function runFleet(settings: FleetSettings, livesIn: (world: World) => Does<void>[]) {
  const { state, seed, killOneIn, fleet = plainFleet } = settings
  const random = randomOf(seed)
  const database = openSiteDatabase(state)
  let [at, kills] = [1_700_000_000_000, 0]
  // The next server loads its program while this one works.
  let [running, spare] = [fleet.start(), fleet.start()]
  let [isOpen, isToDie] = [false, false]
  let askedAt = at
  const world: World = { database, fleet, now: () => at, kills: () => kills }
  const wishes = new Map(livesIn(world).map((life) => [life, first(life)]))

  /** @returns the answers, by machine; those that the server was killed before are missing */
  async function ask(actions: Asked['actions']): Promise<Map<string, Heard>> {
    const asked: Asked = { at, actions }
    askedAt = at
    if (!isOpen) asked.open = state
    isOpen = true
    if (killOneIn !== undefined && !isToDie && random() * killOneIn < 1) {
      isToDie = true
      asked.killAfter = Math.floor(random() * 25)
    }
    const { answers, wasKilled } = await running.ask(asked)
    const heard = answers.map((answer): [string, Heard] => [answer.machine, { answer, kills }])
    if (wasKilled) {
      assert.ok(isToDie, 'the server has ended')
      kills++
      ;[running, spare, isOpen, isToDie] = [spare, fleet.start(), false, false]
      // The server is off for some seconds, or for minutes.
      at += (random() < 0.5 ? 5 : 5 * 60) * second * (1 + Math.floor(random() * 4))
    }
    return new Map(heard)
  }

  try {
    while (wishes.size > 0) {
      const asking = [...wishes].flatMap(([life, wish]) => ('ask' in wish ? [{ life, wish }] : []))
      if (asking.length === 0) {
        const wakes = Math.min(
          ...[...wishes.values()].map((wish) => ('until' in wish ? wish.until : at)),
        )
        at = Math.max(at, Math.min(wakes, askedAt + tickMs))
        if (at >= askedAt + tickMs) await ask([])
      }
      const answers = asking.length > 0 ? await ask(asking.map(({ wish }) => wish.ask)) : undefined
      for (const [life, wish] of wishes) {
        if ('until' in wish ? wish.until > at : !answers) continue
        const next = life.next('ask' in wish ? answers?.get(wish.ask.machine) : undefined)
        if (next.done === true) wishes.delete(life)
        else wishes.set(life, next.value)
      }
    }
    const ends = database.read
      .lives(assert.fail)
      .map(({ machine, current, lastGood, generations }) => ({
        ...{ machine, current, lastGood },
        verdicts: generations.map(({ image, verdict }) => `${image} ${verdict}`),
      }))
    return { kills, ends }
  } finally {
    for (const server of [running, spare]) await server.end()
    database.close()
  }
}

function first(life: Does<void>): Wish {
  const { done, value } = life.next(undefined)
  return done === true ? assert.fail('a machine wants nothing') : value
}

const plainFleet = {
  machineOf: (index: number) => `10.0.0.${index + 1}`,
  usesDhcp: (index: number) => index % 4 > 0,
  candidateOf(index: number, update: number, blesses: boolean) {
    const image = `${index}-${update}`
    return { image, toplevel: `/nix/store/${image}`, blesses }
  },
  start(): FleetServer {
    const child = fork(program)
    return { ask: (asked) => askOnce(child, asked), end: () => endProcess(child) }
  },
}

export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

async function askOnce(
  child: ChildProcess,
  asked: Asked,
): Promise<{ answers: Answer[]; wasKilled: boolean }> {
  const answers: Answer[] = []
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const hears = (told: Told) => {
    if (told === 'done') resolve(false)
    else answers.push(told.answer)
  }
  // All that it told before it was killed is read before this.
  const ends = () => resolve(true)
  child.on('message', hears).on('disconnect', ends)
  child.send(asked, () => {})
  const wasKilled = await waitFor('the server answers', promise)
  child.off('message', hears).off('disconnect', ends)
  return { answers, wasKilled }
}
