// Machines that are updated again and again, with a clock of their own. Their server is a process,
// which can be killed at any moment.

import assert from 'node:assert/strict'
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Sign } from '../../../src/site/life/attempts.ts'
import { assign } from '../../../src/site/life/choose.ts'
import type { Candidate, Life } from '../../../src/site/life/life.ts'
import { openSiteDatabase } from '../../../src/site/database.ts'
import { createTime, randomOf } from '../../support/simulated-time.ts'

type Question =
  | { kind: 'open'; state: string }
  | { kind: 'tick' }
  | { kind: 'begin'; machine: string }
  | { kind: 'bound'; machine: string }
  | { kind: 'sign'; machine: string; sign: Sign }
export type Asked = Question & { id: number; at: number }
export type Answer = { id: number; bound: { attempt: number; generation: number } | undefined }

/** What a machine does with an image. `flaky`: it crashes until two attempts have failed. */
const behaviours = ['good', 'good', 'crash', 'flaky', 'hang', 'other'] as const

export interface FleetSettings {
  state: string
  machines: number
  updates: number
  seed: number
  /** The server is killed at one in so many questions. */
  killOneIn: number | undefined
}

class Killed extends Error {}

const minute = 60_000

export async function updateFleet(settings: FleetSettings) {
  const { state, machines, updates, seed, killOneIn } = settings
  const kills = { count: 0 }
  const random = randomOf(seed + 1000)
  let at = 1_700_000_000_000
  let epoch = 0
  let server: ChildProcess | undefined
  let starting: Promise<void> | undefined
  let asked = 0
  const waiting = new Map<number, PromiseWithResolvers<Answer> & { child: ChildProcess }>()

  async function start(): Promise<void> {
    const child = fork(join(import.meta.dirname, 'site-program.ts'), { stdio: 'inherit' })
    child.on('message', (answer: Answer) => waiting.get(answer.id)?.resolve(answer))
    child.on('exit', () => {
      for (const each of waiting.values()) {
        if (each.child === child) each.reject(new Killed())
      }
    })
    server = child
    await ask(child, { kind: 'open', state })
  }

  function ask(child: ChildProcess, question: Question): Promise<Answer> {
    const id = ++asked
    const answer = Promise.withResolvers<Answer>()
    waiting.set(id, { ...answer, child })
    child.send({ ...question, id, at } satisfies Asked)
    return answer.promise.finally(() => waiting.delete(id))
  }

  async function call(question: Question): Promise<Answer['bound']> {
    // Another question may have had this server killed while it started.
    await (starting ??= start().catch((error: unknown) => {
      starting = undefined
      throw error
    }))
    assert.ok(server)
    const child = server
    const answer = ask(child, question)
    if (killOneIn !== undefined && random() * killOneIn < 1) {
      // Sometimes before, sometimes after it has done what was asked.
      if (random() < 0.5) await answer
      kill(child)
    }
    return (await answer).bound
  }

  function kill(child: ChildProcess): void {
    // Another question may have had it killed.
    if (server !== child || starting === undefined) return
    starting = undefined
    child.kill('SIGKILL')
    kills.count++
    epoch++
    // The server is off for a time that must not count.
    at += 20 * minute
  }

  const database = openSiteDatabase(state)
  const time = createTime(
    machines,
    () => at,
    async (now) => {
      at = now
      for (;;) {
        try {
          await call({ kind: 'tick' })
          return
        } catch (error) {
          if (!(error instanceof Killed)) throw error
        }
      }
    },
  )

  async function live(index: number): Promise<void> {
    const machine = `02:00:00:00:00:${index.toString(16).padStart(2, '0')}`
    const random = randomOf(seed * 1000 + index)
    // What a kill changes must not change what the images do.
    const plan = Array.from({ length: updates }, (_, update) => ({
      image: `${index}-${update}`,
      behaviour: behaviours[Math.floor(random() * behaviours.length)] ?? 'good',
    }))
    const behaviourOf = (image: string) => plan.find((each) => each.image === image)?.behaviour
    const attempts: number[] = []

    async function boot(): Promise<void> {
      let seen = epoch
      let begun: Answer['bound']
      // A machine asks again until it is answered.
      while (!begun) {
        try {
          seen = epoch
          begun = await call({ kind: 'begin', machine })
        } catch (error) {
          if (!(error instanceof Killed)) throw error
        }
      }
      attempts.push(begun.attempt)
      const life = database.read.lifeOf(machine)
      const generation = life.generations.find(({ number }) => number === begun.generation)
      assert.ok(generation)
      const behaviour = behaviourOf(generation.image) ?? 'good'
      const isUp = behaviour === 'good' || (behaviour === 'flaky' && generation.failures >= 2)

      /** @returns whether the machine goes on after the server was killed */
      const does = async (sign: Sign): Promise<boolean> => {
        for (;;) {
          if (seen !== epoch && random() < 0.5) return false
          seen = epoch
          try {
            const bound = await call({ kind: 'bound', machine })
            // Kernel and root are of one generation.
            assert.deepEqual(bound, begun)
            await call({ kind: 'sign', machine, sign })
            return true
          } catch (error) {
            if (!(error instanceof Killed)) throw error
          }
        }
      }

      const steps = ['kernel', 'initrd', 'mount', ...(isUp ? (['init'] as const) : [])] as const
      for (const step of steps) {
        if (!(await does({ kind: 'step', step }))) return
        await time.sleep(5000 + random() * 10_000)
      }
      if (behaviour === 'crash' || (behaviour === 'flaky' && !isUp)) return
      const toplevel = behaviour === 'other' ? '/nix/store/other' : generation.toplevel
      const bootId = `${machine} ${begun.attempt}`
      if (behaviour !== 'hang' && !(await does({ kind: 'bless', bootId, toplevel }))) return
      for (;;) {
        await time.sleep(30_000)
        const { attempts } = database.read.lifeOf(machine)
        if (attempts.at(-1)?.outcome !== 'running') return
        // A person switches the power of a machine that hangs, or an idle machine gives a sign.
        if (seen === epoch) continue
        if (!isUp || !(await does({ kind: 'alive' }))) return
      }
    }

    for (const { image } of plan) {
      await time.sleep(random() * 10 * minute)
      const made = database.change((writer) => {
        const assigned = assign(writer.of(machine), candidate(image), { at, uptime: 0 }, 'person')
        if ('refused' in assigned) return assigned.refused.number
        writer.keep(assigned.life)
        return assigned.generation.number
      })
      const isDecided = () => {
        const { generations } = database.read.lifeOf(machine)
        return generations.find(({ number }) => number === made)?.verdict !== 'trial'
      }
      while (!isDecided()) {
        await boot()
        // A verdict is final once no power cut can take it back.
        if (isDecided()) await time.sleep(2 * minute)
      }
      assertCounted(database.read.lifeOf(machine), made, attempts)
    }
  }

  await time.all(Array.from({ length: machines }, (_, index) => live(index)))
  if (server) {
    const ended = once(server, 'exit')
    server.kill('SIGKILL')
    await ended
  }
  const lives = database.read.lives()
  database.close()
  return {
    kills: kills.count,
    ends: lives.map(({ machine, current, lastGood, generations }) => ({
      ...{ machine, current, lastGood },
      verdicts: generations.map(({ image, verdict }) => `${image} ${verdict}`),
    })),
  }
}

/** No attempt is lost, and none is counted twice. */
function assertCounted(life: Life, made: number, acknowledged: readonly number[]): void {
  const generation = life.generations.find(({ number }) => number === made)
  const tried = life.attempts.filter(({ generation }) => generation === made)
  const failed = tried.filter(({ reason = '' }) => reason.startsWith('started again'))
  assert.equal(generation?.failures, failed.length)
  assert.ok(failed.length <= 3)
  const numbers = life.attempts.map(({ number }) => number)
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => (numbers[0] ?? 0) + index),
  )
  for (const number of acknowledged.filter((each) => each >= (numbers[0] ?? 0))) {
    assert.ok(numbers.includes(number), `attempt ${number} of ${life.machine} is lost`)
  }
  assert.equal(new Set(acknowledged).size, acknowledged.length)
}

function candidate(image: string): Candidate {
  return { image, toplevel: `/nix/store/${image}`, blesses: true }
}
