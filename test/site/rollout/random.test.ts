// Random roll-outs: what must hold in every one of them, and that they end the same if the server is killed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { assign, decide, rollback } from '../../../src/site/life/choose.ts'
import { generationOf, lastAttempt } from '../../../src/site/life/life.ts'
import { hasTried } from '../../../src/site/life/take-back.ts'
import { pause, resume } from '../../../src/site/rollout/pause-resume.ts'
import type { RestartCommands, Rollout } from '../../../src/site/rollout/rollout.ts'
import { lastBooted } from '../../../src/site/rollout/stand.ts'
import { endCommand } from '../../../src/site/rollout/restart-commands.ts'
import { standsIn, stepRollouts, type DueRestart } from '../../../src/site/rollout/rollouts.ts'
import { candidate, minutes } from '../life/support/simulate.ts'
import {
  rebooted,
  settings,
  simulateGroup,
  tickMs,
  withPower,
  type Behaviour,
} from './support/simulate.ts'

const mostMachines = 20

interface Plan {
  machines: {
    behaviour: Behaviour
    isAway: boolean
    slowTicks: number
    isSlowInDhcp: boolean
    restart?: RestartCommands
    restartsItself?: 'now' | 'out of its windows'
  }[]
  /** After how many machines a wave ends. */
  ends: number[]
  pauses: boolean
  maxUnavailable: number
  halt: number
  tries: number
  /** Milliseconds. Short ones end while machines still go down. */
  deadline: number
}

type Event =
  | { kind: 'wait'; ticks: number }
  | {
      kind: 'starts' | 'goes away' | 'asks DHCP only'
      machine: number
    }
  | {
      /** What people do. They assign another image, move a machine to another group or back, and so on. */
      kind: 'hold' | 'release' | 'good' | 'bad' | 'assign' | 'go back' | 'move'
      machine: number
    }
  /** The disk is full from then on, or has room again. */
  | { kind: 'disk' }
  | { kind: 'power cut' | 'server' | 'pause' | 'resume' | 'abort' | 'again' | 'back' }

const behaviours: fc.Arbitrary<Behaviour> = fc.oneof(
  { weight: 6, arbitrary: fc.constant('comes up' as const) },
  { weight: 1, arbitrary: fc.constant('crashes' as const) },
  { weight: 1, arbitrary: fc.constant('hangs' as const) },
)

const plans: fc.Arbitrary<Plan> = fc.record({
  machines: fc.array(
    fc.record(
      {
        behaviour: behaviours,
        isAway: fc.oneof({ weight: 5, arbitrary: fc.constant(false) }, fc.constant(true)),
        slowTicks: fc.nat({ max: 4 }),
        isSlowInDhcp: fc.boolean(),
        restart: fc.constantFrom(rebooted, withPower),
        restartsItself: fc.constantFrom('now' as const, 'out of its windows' as const),
      },
      { requiredKeys: ['behaviour', 'isAway', 'slowTicks', 'isSlowInDhcp'] },
    ),
    { minLength: 2, maxLength: mostMachines },
  ),
  ends: fc.array(fc.integer({ min: 1, max: mostMachines }), { maxLength: 3 }),
  pauses: fc.boolean(),
  maxUnavailable: fc.integer({ min: 1, max: 4 }),
  halt: fc.integer({ min: 1, max: 4 }),
  tries: fc.integer({ min: 1, max: 3 }),
  deadline: fc.constantFrom(10 * minutes, 10 * minutes, 2 * minutes, 1 * minutes),
})

const machine = fc.nat({ max: mostMachines - 1 })
const events: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('wait' as const),
      ticks: fc.constantFrom(1, 2, 3, 7, 22),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('starts' as const), machine }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'goes away' as const,
        'asks DHCP only',
        'hold',
        'release',
        'good',
        'bad',
      ),
      machine,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom('assign' as const, 'go back', 'move'),
      machine,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('disk' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom('power cut' as const, 'server', 'pause', 'resume', 'again', 'back'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('abort' as const) }) },
)

function wavesOf(names: readonly string[], ends: readonly number[]): string[][] {
  const cuts = [...new Set([0, ...ends.toSorted((one, other) => one - other), names.length])]
  return cuts
    .filter((cut) => cut <= names.length)
    .map((cut, index, all) => names.slice(cut, all[index + 1]))
    .filter((wave) => wave.length > 0)
}

function play({ machines, ends, pauses, ...plan }: Plan) {
  const names = machines.map((_, index) => `pi${index + 1}`)
  const group = simulateGroup(names)
  machines.forEach(({ behaviour, isAway, slowTicks, isSlowInDhcp, restartsItself }, index) => {
    const one = group.machine(names[index] ?? '')
    one.behaviour = behaviour
    one.slowTicks = slowTicks
    one.isSlowInDhcp = isSlowInDhcp
    if (isAway) one.phase = 'off'
    if (restartsItself) one.restartsItself = restartsItself
  })
  group.wait(3 * minutes)
  const waves = wavesOf(names, ends).map((all) => ({ machines: all, pause: pauses }))
  const { maxUnavailable, halt, tries, deadline } = plan
  const health = { deadline, tries, settle: Math.min(1 * minutes, deadline / 2), tcp: [] }
  const restart = new Map(
    machines.flatMap(({ restart }, index) => (restart ? [[names[index] ?? '', restart]] : [])),
  )
  const begins = (image: string) => {
    const more = { waves, maxUnavailable, halt, health, candidate: candidate(image) }
    group.begin(settings([], more), restart)
  }
  return { names, group, begins, maxUnavailable, deadline }
}

type Play = ReturnType<typeof play>

/** Whether a person holds the machine, or it belongs to another group. */
function isLeftOut({ writer, rollout }: Play['group'], name: string): boolean {
  const { holds, groups } = writer.rollouts.read()
  return holds.has(name) || groups.get(name) !== rollout.group
}

/**
 * The machines that nobody can use now, because of the roll-out or for another reason. One that is still going
 * down or booting at its deadline has given its slot back.
 *
 * @param reached when each machine was last restarted
 */
function busyIn({ names, group, deadline }: Play, reached: ReadonlyMap<string, number>): string[] {
  return names.filter((name) => {
    if (isLeftOut(group, name)) return false
    const life = group.site.of(name)
    const attempt = lastAttempt(life)
    const isRunning = attempt?.outcome === 'running'
    const isTrying = isRunning && generationOf(life, attempt.generation)?.verdict === 'trial'
    const { phase } = group.machine(name)
    if (phase === 'going down') {
      return group.site.now.uptime - (reached.get(name) ?? -Infinity) < deadline
    }
    return (phase === 'booting' && isRunning) || (phase === 'up' && isTrying)
  })
}

test('a random roll-out keeps its promises', () => {
  fc.assert(
    fc.property(plans, fc.array(events, { maxLength: 40 }), (plan, history) => {
      const played = play(plan)
      const { names, group, begins, maxUnavailable, deadline } = played
      const { site, writer } = group
      const nameAt = (index: number) => names[index % names.length] ?? assert.fail()
      /** The machines that have begun to boot the image of the roll-out before it was stopped. */
      const tried = new Set<string>()
      /** The machines that ran the image of the roll-out when it began, or have begun to boot it since. */
      const booted = new Set<string>()
      let images = 0
      /** Whether it cannot be written that a command begins. */
      let isFull = false
      /** The restarts whose commands have not begun. */
      let waiting: DueRestart[] = []
      /** When a command last reached a machine, or the machine last restarted itself. */
      const reached = new Map<string, number>()
      /** The machines that the last step found left out. */
      let leftOut: string[] = []

      const { getsFile, step, reaches, restartsItself } = group
      const mayResume = () => ['paused', 'halted'].includes(group.rollout.state)
      const isStopped = () => ['halted', 'aborted'].includes(group.rollout.state)

      group.getsFile = (name) => {
        const life = site.of(name)
        getsFile(name)
        const after = site.of(name)
        const generation = generationOf(after, lastAttempt(after)?.generation)
        if (generation?.image === group.rollout.candidate.image) booted.add(name)
        if (!generation || generation.image === 'old') return
        const isOfRollout = generation.image === group.rollout.candidate.image
        if (isStopped() && isOfRollout && generation.verdict === 'trial' && !tried.has(name)) {
          assert.fail(`${name} tries the image after the roll-out has stopped`)
        }
        assert.ok(life.current !== undefined)
        if (isOfRollout) tried.add(name)
      }

      group.restart = (all) => {
        const due = [...waiting, ...all]
        waiting = []
        for (const each of due) {
          if (!group.beginsCommand(each)) continue
          if (isFull) waiting.push(each)
          else {
            group.reaches(each)
            endCommand(writer, each.machine)
          }
        }
        const open = [...writer.rollouts.read().requests].flatMap(([name, { kind, command }]) =>
          kind !== 'itself' && (command === 'due' || command === 'begun') ? [name] : [],
        )
        assert.deepEqual(open.toSorted(), waiting.map((each) => each.machine).toSorted())
      }

      /** A second command at once could cut the boot that the first one has begun. */
      group.reaches = (due) => {
        const { phase } = group.machine(due.machine)
        const since = site.now.uptime - (reached.get(due.machine) ?? -Infinity)
        const isGoing = phase === 'going down' || phase === 'booting'
        assert.ok(!isGoing || since >= deadline, `${due.machine} is restarted twice`)
        reached.set(due.machine, site.now.uptime)
        reaches(due)
      }

      group.restartsItself = (name) => {
        assert.ok(!writer.rollouts.read().holds.has(name), `${name} is held`)
        assert.notEqual(group.rollout.state, 'paused')
        assert.equal(group.machine(name).restartsItself, 'now')
        reached.set(name, site.now.uptime)
        restartsItself(name)
      }

      group.step = () => {
        const stay = leftOut.map((name) => [name, site.of(name)] as const)
        const before = group.rollout
        const busy = busyIn(played, reached)
        const asked = writer.rollouts.read().requests
        const restarts = step()
        const { rollout } = group
        assert.ok(restarts.length === 0 || before.state !== 'paused' || rollout.state !== 'paused')
        const restarted = new Set(restarts.map(({ machine }) => machine))
        for (const [name, request] of writer.rollouts.read().requests) {
          if (request.kind === 'itself' && request !== asked.get(name)) restarted.add(name)
        }
        if (restarted.size > 0) {
          const others = busy.filter((name) => !restarted.has(name))
          assert.ok(others.length + restarted.size <= maxUnavailable, 'too many machines at once')
        }
        if (before.state === 'halted' && rollout.state !== 'halted') assertWentBack(before)
        for (let wave = before.wave; wave < rollout.wave; wave++) assertEnded(wave)
        const later = rollout.waves.slice(rollout.wave + 1).flatMap((each) => each.machines)
        for (const name of later) assert.equal(rollout.machines[name]?.given, undefined)
        for (const [name, stand] of Object.entries(group.stands())) {
          if (stand !== 'good') continue
          assert.ok(booted.has(name), `${name} is good, and has not booted`)
          assert.equal(site.of(name).current, rollout.machines[name]?.given?.generation)
        }
        for (const [name, life] of stay) {
          if (!isLeftOut(group, name) || site.of(name) === life) continue
          // A power cut may have put the image on trial there again, and it is taken back.
          const number = before.machines[name]?.given?.generation
          assert.equal(number, life.current, `${name} is left out`)
          assert.notEqual(number, site.of(name).current, `${name} is left out`)
        }
        leftOut = names.filter((name) => isLeftOut(group, name))
        // Nothing is left to do now.
        const again = stepRollouts(writer, site.now, assert.ifError)
        assert.deepEqual(again, { restarts: [], told: [], isUnfinished: false })
        assert.equal(group.rollout, rollout)
        return restarts
      }

      /** Only a power cut ends a halt without a person, and a person's pause outlives it. */
      function assertWentBack({ haltedBy = [], beforeHalt }: Rollout): void {
        const { machines, state } = group.rollout
        const { holds } = writer.rollouts.read()
        for (const name of haltedBy) {
          const verdict = generationOf(site.of(name), machines[name]?.given?.generation)?.verdict
          assert.ok(verdict === 'bad' || (verdict === 'trial' && !holds.has(name)), name)
        }
        if (beforeHalt) assert.equal(state, beforeHalt.state)
      }

      function assertEnded(wave: number): void {
        const { rollout } = group
        const stands = group.stands()
        const isOut = (name: string) =>
          ['held', 'refused', 'other', 'moved'].includes(stands[name] ?? assert.fail())
        if (rollout.waves[wave]?.machines.every(isOut)) return
        const verdicts = (rollout.waves[wave]?.machines ?? []).flatMap((name) => {
          const number = rollout.machines[name]?.given?.generation
          const life = site.of(name)
          const generation = generationOf(life, number)
          if (!generation || isLeftOut(group, name)) return []
          if (generation.verdict === 'trial' && !hasTried(life, generation.number)) return []
          if (generation.verdict === 'trial' && life.current !== generation.number) return []
          return [generation.verdict]
        })
        assert.ok(verdicts.length > 0, 'a wave ended in which no machine had tried')
        assert.ok(verdicts.every((verdict) => verdict === 'good'))
      }

      function beginsAnew(image: string): void {
        booted.clear()
        for (const name of names) {
          const life = site.of(name)
          const runs = generationOf(life, lastBooted(life)?.generation)
          if (runs?.image === image) booted.add(name)
        }
        begins(image)
      }

      beginsAnew('new')
      for (const event of history) {
        switch (event.kind) {
          case 'wait':
            group.wait(event.ticks * tickMs)
            break
          case 'starts':
            group.starts(nameAt(event.machine))
            break
          case 'goes away':
            group.machine(nameAt(event.machine)).phase = 'off'
            break
          case 'asks DHCP only':
            // It goes on from its own disk.
            site.asksDhcp(nameAt(event.machine))
            group.machine(nameAt(event.machine)).phase = 'off'
            break
          case 'good': {
            // It may have gone back from this.
            const number = group.rollout.machines[nameAt(event.machine)]?.given?.generation
            site.change(nameAt(event.machine), (life) => {
              return decide(life, number, 'good') ?? assert.fail()
            })
            break
          }
          case 'bad':
            site.change(nameAt(event.machine), (life) => {
              return decide(life, undefined, 'bad') ?? assert.fail()
            })
            break
          case 'hold':
            writer.rollouts.hold(nameAt(event.machine), { at: 0, by: 'a person' })
            break
          case 'release':
            writer.rollouts.release(nameAt(event.machine))
            break
          case 'assign':
            site.change(nameAt(event.machine), (life) => {
              const assigned = assign(life, candidate('own'), site.now, 'person')
              return 'refused' in assigned ? { life, told: [] } : assigned
            })
            break
          case 'go back':
            site.change(nameAt(event.machine), (life) => {
              const back = rollback(life, undefined)
              return { life: typeof back === 'string' ? life : back.life, told: [] }
            })
            break
          case 'move': {
            const groups = new Map(writer.rollouts.read().groups)
            const name = nameAt(event.machine)
            groups.set(name, groups.get(name) === 'lab' ? 'other' : 'lab')
            writer.rollouts.setGroups(groups)
            break
          }
          case 'disk':
            isFull = !isFull
            break
          case 'power cut':
            for (const name of names) if (group.machine(name).phase !== 'off') group.starts(name)
            break
          case 'server':
            waiting = []
            group.serverRestarts()
            break
          case 'pause':
            group.keep(pause(group.rollout))
            break
          case 'resume': {
            const read = writer.rollouts.read()
            group.keep(resume(group.rollout, standsIn(writer, read, group.rollout, site.now)))
            break
          }
          case 'abort':
            group.abort()
            break
          case 'again':
            tried.clear()
            beginsAnew(`new-${++images}`)
            break
          case 'back':
            tried.clear()
            beginsAnew('old')
        }
        group.restart(group.step())
      }
      isFull = false
      group.wait(60 * minutes)
      assert.deepEqual(waiting, [])
      // Nothing holds up a roll-out whose machines are all held.
      for (const name of names) writer.rollouts.hold(name, { at: 0, by: 'a person' })
      group.step()
      for (let left = group.rollout.waves.length; left > 0 && mayResume(); left--) {
        group.keep(resume(group.rollout, new Map(Object.entries(group.stands()))))
        group.step()
      }
      assert.ok(['done', 'aborted'].includes(group.rollout.state), group.rollout.state)
      for (const life of site.lives.values()) {
        const next = generationOf(life, life.current)
        assert.ok(next)
        assert.ok(next.verdict !== 'bad' || life.lastGood === undefined)
      }
    }),
    { numRuns: 300 },
  )
})
