// A machine's life is compared with a reference that reads the whole history anew each time. It is
// slow and knows nothing of states: it follows the sentences of docs/site.md.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { defaultPolicy, runningAttempt } from '../../../src/site/life/life.ts'
import { simulate } from './support/simulate.ts'

type Event =
  | { kind: 'assign'; image: string }
  | { kind: 'begin' }
  | { kind: 'dhcp' }
  | { kind: 'asks' }
  | { kind: 'bless'; isOther: boolean }
  | { kind: 'alive' | 'waits' | 'waited' }
  | { kind: 'wait'; seconds: number }
  | { kind: 'server' }

const events: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('assign' as const),
      image: fc.constantFrom('a', 'b', 'c', 'd'),
    }),
  },
  { weight: 6, arbitrary: fc.constant({ kind: 'begin' as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'dhcp' as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'asks' as const }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('bless' as const), isOther: fc.boolean() }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom('alive' as const, 'waits', 'waited') }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('wait' as const),
      seconds: fc.constantFrom(1, 20, 60, 121, 300, 601),
    }),
  },
  { weight: 3, arbitrary: fc.constant({ kind: 'server' as const }) },
)

const seconds = (milliseconds: number) => milliseconds / 1000
const [settle, deadline] = [seconds(defaultPolicy.settle), seconds(defaultPolicy.deadline)]

interface Made {
  image: string
  verdict: 'trial' | 'good' | 'bad'
  failures: number
  /** How long the attempts of the trial took that count. Seconds. */
  takes: number
}

interface Tried {
  made: Made
  outcome: 'running' | 'good' | 'failed' | 'void'
  isSeen: boolean
  hasAsked: boolean
  age: number
  up?: number
}

function reference(history: readonly Event[]) {
  const all: Made[] = []
  const tries: Tried[] = []
  const next: { wanted?: Made; lastGood?: Made } = {}
  let isWaiting = false
  const condemn = (made: Made) => {
    made.verdict = 'bad'
    if (next.wanted === made && next.lastGood) next.wanted = next.lastGood
  }
  const end = (tried: Tried, outcome: 'good' | 'failed' | 'void') => {
    const { made } = tried
    tried.outcome = outcome
    if (outcome === 'void') made.takes -= tried.age
    if (made.verdict !== 'trial') return
    if (outcome === 'failed' && ++made.failures >= 3) condemn(made)
    if (outcome !== 'good') return
    made.verdict = 'good'
    if (!next.lastGood || next.wanted !== next.lastGood) next.lastGood = made
    if (next.wanted?.verdict === 'bad') next.wanted = next.lastGood
  }
  for (const event of history) {
    const last = tries.at(-1)
    const running = last?.outcome === 'running' ? last : undefined
    switch (event.kind) {
      case 'assign': {
        const judged = all.findLast(({ image, verdict }) => {
          return image === event.image && verdict !== 'trial'
        })
        if (judged?.verdict === 'bad' || next.wanted?.image === event.image) break
        if (next.lastGood?.image === event.image) next.wanted = next.lastGood
        else
          all.push((next.wanted = { image: event.image, verdict: 'trial', failures: 0, takes: 0 }))
        break
      }
      case 'begin':
      case 'dhcp':
        if (running) end(running, running.isSeen && running.hasAsked ? 'failed' : 'void')
        if (next.wanted?.verdict === 'trial' && next.wanted.takes >= deadline) condemn(next.wanted)
        if (!next.wanted) break
        tries.push({
          ...{ made: next.wanted, outcome: 'running', isSeen: true, age: 0 },
          hasAsked: event.kind === 'begin',
        })
        break
      case 'asks':
        if (running) running.isSeen = running.hasAsked = true
        break
      case 'bless':
        if (!running) break
        running.isSeen = running.hasAsked = true
        if (!event.isOther) running.up ??= 0
        break
      case 'alive':
      case 'waits':
      case 'waited':
        if (running) running.isSeen = true
        if (tries.length > 0 && event.kind !== 'alive') isWaiting = event.kind === 'waits'
        break
      case 'server':
        if (running) running.isSeen = false
        isWaiting = false
        break
      case 'wait': {
        if (!running?.isSeen || !running.hasAsked) break
        const { made } = running
        if (!isWaiting) {
          running.age += event.seconds
          made.takes += event.seconds
        }
        if (running.up !== undefined) {
          running.up += event.seconds
          if (made.verdict === 'good' || running.up >= settle) end(running, 'good')
        } else if (made.verdict === 'trial' && made.takes >= deadline) {
          running.outcome = 'failed'
          condemn(made)
        } else if (made.verdict !== 'trial' && running.age >= deadline) {
          running.outcome = 'failed'
        }
      }
    }
  }
  return {
    verdicts: all.map(({ image, verdict, failures }) => ({ image, verdict, failures })),
    tries: tries.map(({ made, outcome }) => ({ generation: all.indexOf(made) + 1, outcome })),
    current: next.wanted && all.indexOf(next.wanted) + 1,
    lastGood: next.lastGood && all.indexOf(next.lastGood) + 1,
  }
}

function played(history: readonly Event[]) {
  const machine = simulate()
  const bound: number[] = []
  for (const event of history) {
    switch (event.kind) {
      case 'assign':
        machine.assign(event.image)
        break
      case 'begin':
      case 'dhcp': {
        const generation = event.kind === 'begin' ? machine.begin() : machine.asksDhcp()
        if (generation !== undefined) bound.push(generation)
        break
      }
      case 'bless':
        // A good generation that is late is no trial: the rules tell this case apart.
        if (runningAttempt(machine.life) === undefined) break
        if (event.isOther) machine.see({ kind: 'bless', bootId: 'other', toplevel: 'other' })
        else machine.bless()
        break
      case 'alive':
      case 'waits':
      case 'waited':
      case 'asks':
        machine.see({ kind: event.kind })
        break
      case 'wait':
        machine.wait(event.seconds * 1000)
        break
      case 'server':
        machine.serverRestarts()
    }
  }
  return { machine, bound }
}

test('every history leads to the verdicts that the reference finds', () => {
  const histories = fc.array(events, { maxLength: 45 })
  fc.assert(
    fc.property(histories, (history) => {
      const { life } = played(history).machine
      const { generations, attempts, current, lastGood } = life
      const found = {
        verdicts: generations.map(({ image, verdict, failures }) => ({ image, verdict, failures })),
        tries: attempts.map(({ generation, outcome }) => ({ generation, outcome })),
        current,
        lastGood,
      }
      assert.deepEqual(found, reference(history))
    }),
    { numRuns: 2000 },
  )
})

test('no history makes a machine alternate, or try more often than it may', () => {
  fc.assert(
    fc.property(fc.array(events, { maxLength: 45 }), (history) => {
      const { machine, bound } = played(history)
      const { generations, attempts, current, lastGood } = machine.life
      assert.deepEqual(
        attempts.map(({ number }) => number),
        attempts.map((_, index) => index + 1),
      )
      assert.ok(attempts.slice(0, -1).every(({ outcome }) => outcome !== 'running'))
      for (const { number, verdict } of generations) {
        const tries = attempts.filter(({ generation }) => generation === number)
        const counted = tries.filter(({ outcome }) => outcome !== 'void')
        if (verdict === 'bad' && lastGood !== undefined && current !== number) {
          // A machine that went back has not come again to what was bad.
          const last = bound.lastIndexOf(number)
          assert.ok(!bound.slice(last + 1).includes(number))
          if (tries.length > 0 && generations[0]?.verdict === 'good') {
            assert.ok(counted.length <= defaultPolicy.tries, `${counted.length} tries`)
          }
        }
      }
      const next = generations.find(({ number }) => number === current)
      if (next?.verdict === 'good') assert.equal(current, lastGood)
      if (next?.verdict === 'bad') assert.equal(lastGood, undefined)
    }),
    { numRuns: 1000 },
  )
})
