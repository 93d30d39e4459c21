// Machines that boot, fail, hang and go away, in the roll-out of an image to them.

import assert from 'node:assert/strict'
import { assign } from '../../../../src/site/life/choose.ts'
import {
  generationOf,
  isTakenBack,
  lastAttempt,
  type Life,
} from '../../../../src/site/life/life.ts'
import {
  beginCommand,
  endCommand,
  recoverCommands,
} from '../../../../src/site/rollout/restart-commands.ts'
import { letRestart, noteReadiness } from '../../../../src/site/rollout/restart-itself.ts'
import { named } from '../../../../src/site/rollout/halt.ts'
import type {
  Readiness,
  RestartRequest,
  RestartCommands,
  Rollout,
  RolloutSettings,
  RolloutTold,
} from '../../../../src/site/rollout/rollout.ts'
import {
  abortRollout,
  beginRollout,
  standsIn,
  stepRollouts,
  type DueRestart,
} from '../../../../src/site/rollout/rollouts.ts'
import type { Hold, RolloutWriter } from '../../../../src/site/rollout/statements.ts'
import { candidate, minutes, simulateSite } from '../../life/support/simulate.ts'

/** What an image does on a machine. `crashes`: it starts again before it is up. */
export type Behaviour = 'comes up' | 'crashes' | 'hangs'

interface SimulatedMachine {
  phase: 'off' | 'up' | 'going down' | 'in DHCP' | 'booting' | 'hung'
  /** What the image of the roll-out does on it; every other image comes up. */
  behaviour: Behaviour
  /** Its reboot command does nothing. */
  isDeaf?: boolean
  /** So many ticks after it was restarted, it starts. Default: at once. */
  slowTicks?: number
  /** It asks for its first boot file a tick after it has asked DHCP. Default: at once. */
  isSlowInDhcp?: boolean
  /** It restarts itself when the server lets it. `out of its windows`: not now. */
  restartsItself?: 'now' | 'out of its windows'
}

export const group = 'lab'

export function settings(
  waves: readonly (readonly string[])[],
  more: Partial<RolloutSettings> = {},
): RolloutSettings {
  return {
    ...{
      group,
      candidate: candidate('new'),
      maxUnavailable: 1,
      halt: 2,
      rebuild: 'allow',
      keep: 3,
    },
    health: { deadline: 10 * minutes, tries: 3, settle: 1 * minutes, tcp: [] },
    waves: waves.map((machines) => ({ machines, pause: false })),
    ...more,
  }
}

export const tickMs = 0.5 * minutes

/** A machine that restarts itself asks so seldom, and hears only then that it may. */
const askTicks = 5

/** The roll-outs of a site in memory, as the database keeps them. */
function rolloutsInMemory(): RolloutWriter {
  const newest = new Map<string, Rollout>()
  const holds = new Map<string, Hold>()
  const requests = new Map<string, RestartRequest>()
  const readiness = new Map<string, Readiness>()
  let groups: ReadonlyMap<string, string> = new Map()
  let last = 0
  return {
    read: () => ({
      ...{ newest: [...newest.values()], holds: new Map(holds), groups, broken: [] },
      ...{ requests: new Map(requests), brokenRequests: [], readiness: new Map(readiness) },
    }),
    nextNumber: () => ++last,
    keep: (rollout) => void newest.set(rollout.group, rollout),
    requestOf: (machine) => requests.get(machine),
    setRequest(machine, one) {
      if (one) requests.set(machine, one)
      else requests.delete(machine)
    },
    setReadiness: (machine, one) => void readiness.set(machine, one),
    hold: (machine, hold) => void holds.set(machine, hold),
    release: (machine) => holds.delete(machine),
    setGroups: (all) => void (groups = all),
  }
}

/** All machines run an image that is good on them. */
export function simulateGroup(names: readonly string[]) {
  const site = simulateSite()
  const rollouts = rolloutsInMemory()
  const writer = {
    of: site.of,
    keep: (life: Life) => void site.lives.set(life.machine, life),
    rollouts,
  }
  const machines = new Map<string, SimulatedMachine>(
    names.map((name) => [name, { phase: 'up', behaviour: 'comes up' }]),
  )
  rollouts.setGroups(new Map(names.map((name) => [name, group])))
  /** In how many ticks machines start that go down. */
  const startsIn = new Map<string, number>()
  let ticks = 0
  const told: string[] = []
  const restarts: DueRestart[] = []

  for (const name of names) {
    site.change(name, (life) => {
      const assigned = assign(life, candidate('old'), site.now, 'person')
      return 'refused' in assigned ? assert.fail() : assigned
    })
    site.begin(name)
    site.bless(name)
  }
  site.wait(2 * minutes)

  function tellAll(all: readonly RolloutTold[]): void {
    for (const each of all) {
      const { machine, says } = named(each, new Map())
      told.push(machine === undefined ? says : `${machine}: ${says}`)
    }
  }

  function machine(name: string): SimulatedMachine {
    return machines.get(name) ?? assert.fail(`there is no machine ${name}`)
  }

  function imageOf(name: string): string | undefined {
    const life = site.of(name)
    return generationOf(life, lastAttempt(life)?.generation)?.image
  }

  /** A machine that has booted does what its image does. */
  function goesOn(name: string): void {
    const one = machine(name)
    if (one.phase === 'going down') {
      const left = (startsIn.get(name) ?? 0) - 1
      if (left <= 0) simulated.starts(name)
      else startsIn.set(name, left)
      return
    }
    if (one.phase === 'in DHCP') return simulated.getsFile(name)
    if (one.phase === 'up') {
      site.see(name, { kind: 'alive' })
      const asksNow = (ticks + names.indexOf(name)) % askTicks === 0
      if (one.restartsItself && asksNow) {
        simulated.asksToRestart(name, one.restartsItself === 'now')
      }
    }
    if (one.phase !== 'booting') return
    const does = imageOf(name) === 'old' ? 'comes up' : one.behaviour
    if (does === 'hangs') one.phase = 'hung'
    if (does === 'crashes') simulated.starts(name)
    if (does !== 'comes up') return
    one.phase = 'up'
    site.bless(name)
  }

  const simulated = {
    site,
    writer,
    machine,
    imageOf,
    /** What the roll-outs have told since the beginning, without the names of groups. */
    told,
    /** All restarts that roll-outs have asked for. */
    restarts,
    get rollout(): Rollout {
      return rollouts.read().newest.find((each) => each.group === group) ?? assert.fail()
    },
    keep(rollout: Rollout | { why: string }) {
      if ('why' in rollout) return
      rollouts.keep(rollout)
    },
    abort: () => abortRollout(writer, simulated.rollout, 'a person aborted it', site.now),
    begin(
      wanted: RolloutSettings,
      restart: ReadonlyMap<string, RestartCommands> = new Map(),
    ): Rollout {
      const begun = beginRollout(writer, wanted, restart, site.now)
      simulated.restart(simulated.step())
      return begun
    },
    /** Steps until nothing is left to do now. @returns the restarts that were asked for */
    step: (): DueRestart[] => {
      const now: DueRestart[] = []
      for (;;) {
        const all = stepRollouts(writer, site.now, assert.ifError)
        tellAll(all.told)
        now.push(...all.restarts)
        if (!all.isUnfinished) break
      }
      restarts.push(...now)
      return now
    },
    /** The machine starts again. */
    starts: (name: string): void => {
      const one = machine(name)
      site.asksDhcp(name)
      one.phase = 'in DHCP'
      if (!one.isSlowInDhcp) simulated.getsFile(name)
    },
    /** As the gate lets it get its first boot file. */
    getsFile: (name: string): void => {
      machine(name).phase = 'booting'
      if (isTakenBack(site.of(name))) site.begin(name)
      else site.see(name, { kind: 'asks' })
    },
    restart(all: readonly DueRestart[]): void {
      for (const due of all) {
        if (!simulated.beginsCommand(due)) continue
        simulated.reaches(due)
        endCommand(writer, due.machine)
      }
    },
    beginsCommand({ machine: name }: DueRestart): boolean {
      const { mayRun, told } = beginCommand(writer, name, site.now)
      tellAll(told)
      return mayRun
    },
    /** What the command does. */
    reaches: ({ machine: name, kind }: DueRestart): void => {
      const one = machine(name)
      const { phase, isDeaf, slowTicks = 0 } = one
      if (phase === 'off') return
      if (kind === 'reboot' && (phase === 'hung' || isDeaf)) return
      if (slowTicks === 0) simulated.starts(name)
      else {
        one.phase = 'going down'
        startsIn.set(name, slowTicks)
      }
    },
    asksToRestart(name: string, isReady: boolean): void {
      tellAll(noteReadiness(writer, name, isReady, site.now))
      if (isReady && letRestart(writer, name, site.now)) simulated.restartsItself(name)
    },
    restartsItself: (name: string): void => {
      const { phase, slowTicks = 0 } = machine(name)
      if (phase !== 'up') return
      if (slowTicks === 0) simulated.starts(name)
      else {
        machine(name).phase = 'going down'
        startsIn.set(name, slowTicks)
      }
    },
    serverRestarts(): void {
      site.serverRestarts()
      tellAll(recoverCommands(writer, rollouts.read().requests))
    },
    /** Time passes, with everything that the machines and the server do in it. */
    wait(milliseconds: number): void {
      for (let passed = 0; passed < milliseconds; passed += tickMs) {
        ticks++
        for (const name of names) goesOn(name)
        site.wait(tickMs)
        simulated.restart(simulated.step())
      }
    },
    stands: () =>
      Object.fromEntries(standsIn(writer, rollouts.read(), simulated.rollout, site.now)),
  }
  return simulated
}

export const rebooted: RestartCommands = { reboot: ['reboot'] }
export const withPower: RestartCommands = { reboot: ['reboot'], power: ['power'] }
