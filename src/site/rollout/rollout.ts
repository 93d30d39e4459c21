/**
 * A roll-out brings one image to the machines of a group, wave by wave. As in ../life/, all of this is plain
 * data, and the functions read no clock and no file.
 *
 * What a machine does is only in its life. A roll-out keeps what it has given to which machine. That a machine
 * was asked to restart is kept beside all roll-outs, because it goes down all the same if its roll-out is
 * replaced or takes the image back. Which machines are up, and whether the image is good there, is read from
 * their lives each time: see stand.ts.
 */
import type { Candidate, Policy } from '../life/life.ts'
import type { Before } from '../life/take-back.ts'

/** When a machine of the group counts as healthy. */
export interface Health extends Policy {
  /** The machine must also accept connections to these ports. */
  tcp: readonly number[]
}

/** The programs that restart a machine, each with its arguments. They run without a shell. */
export interface RestartCommands {
  /** For a machine that runs. */
  reboot?: readonly string[]
  /** For a machine that hangs. */
  power?: readonly string[]
}

/** `itself`: the machine asks whether it may restart, and does so if it is told that it may. */
export type Restart = keyof RestartCommands | 'itself'

/** What a machine that restarts itself last said. */
export interface Readiness {
  /** Whether its time windows let it restart now. */
  isReady: boolean
  uptime: number
  /** The last attempt in which it had booted then. In another one it may not restart itself any more. */
  attempt: number
}

export interface Wave {
  machines: readonly string[]
  /** After this wave, the roll-out waits until a person resumes it. */
  pause: boolean
}

/** What a group asks of its roll-outs. */
export interface GroupSettings {
  health: Health
  /** The most machines that may boot at once, or have been asked to. */
  maxUnavailable: number
  /** With so many bad machines the roll-out halts. Until a wave has shown that it is good, one is enough. */
  halt: number
  /** Whether machines of the group may publish systems of their own. */
  rebuild: 'allow' | 'refuse'
  /** How many good generations each machine keeps. */
  keep: number
  waves: readonly Wave[]
}

/** How the site's file calls each of them. */
export const settingNames = {
  waves: 'waves',
  maxUnavailable: 'max-unavailable',
  halt: 'halt',
  health: 'health',
  rebuild: 'rebuild',
  keep: 'keep',
} as const satisfies Record<keyof GroupSettings, string>

export function settingsOf(group: GroupSettings): GroupSettings {
  const { waves, maxUnavailable, halt, health, rebuild, keep } = group
  return { waves, maxUnavailable, halt, health, rebuild, keep }
}

/** All of this is decided when a person applies the site's file, and stays as it is. */
export interface RolloutSettings extends GroupSettings {
  group: string
  candidate: Candidate
}

export interface Rollout extends RolloutSettings {
  /** From 1 in the site, never used again. */
  number: number
  startedAt: number
  /**
   * - `running`: machines of this wave and those before are given the image
   * - `paused`: no further machine is given the image or asked to restart until a person resumes
   * - `halted`: too many machines were bad; those that had not tried have gone back
   * - `aborted`: as halted, by a person
   * - `done`: all machines that came have tried; machines that come later still get the image
   * - `replaced`: the group has a newer roll-out
   */
  state: 'running' | 'paused' | 'halted' | 'aborted' | 'done' | 'replaced'
  /** Why it does not run, if machines have not halted it. */
  reason?: string
  /** The machines whose bad verdicts halted it. */
  haltedBy?: readonly string[]
  /** Only if it did not run when it halted: what it goes back to if the halt ends by itself. */
  beforeHalt?: { state: 'paused' | 'done'; reason?: string }
  /** The index of the wave that runs or, in a pause, that comes next. */
  wave: number
  machines: Readonly<Record<string, RolloutMachine>>
}

export interface RolloutMachine {
  /** What restarts this machine. By default, nobody restarts it. */
  restart?: RestartCommands
  given?: Given
  /**
   * The generation with which the image is or was bad on the machine, so that it is not tried again until a
   * person calls it good.
   */
  refused?: number
}

/** What a roll-out gave to a machine. */
export interface Given {
  generation: number
  /** In uptime. */
  from: number
  before: Before
  /**
   * Only if the generation was good already while the machine ran another one: the last attempt that it had
   * booted. It counts as good only once the machine is up in a later one.
   */
  after?: number
}

/** When a machine was last asked to restart, by any roll-out. */
export interface RestartRequest {
  /** The number and the group of the roll-out. */
  rollout: number
  group: string
  kind: Restart
  /** The last attempt in which the machine booted, so that a newer one shows that it has restarted. */
  attempt: number
  uptime: number
  /** How often the roll-out has asked it to leave this attempt. */
  times: number
  /**
   * - `due`: its command has not begun, or the machine has not been told that it may restart itself
   * - `begun`: its command runs
   * - `ended`: its command has ended, in whatever way, or the machine was told that it may restart itself
   * - `cut off`: the server ended while its command ran, so this time is not counted in `times`
   */
  command: 'due' | 'begun' | 'ended' | 'cut off'
  /** Only until its command has ended: when it was asked before, if it has not started again since. */
  before?: Omit<RestartRequest, 'before'>
}

/** What happened to a roll-out, or to a machine in it: a sentence for people. */
export interface RolloutTold {
  rollout: number
  group: string
  machine?: string
  says: string
  /** The machines on which the image is bad, until the sentence is made whole: see `named` in halt.ts. */
  bad?: readonly string[]
}

/** @param restart by machine; a machine without one is restarted by people */
export function newRollout(
  number: number,
  startedAt: number,
  settings: RolloutSettings,
  restart: ReadonlyMap<string, RestartCommands>,
): Rollout {
  const names = settings.waves.flatMap(({ machines }) => machines)
  const machines = names.map((name): [string, RolloutMachine] => {
    const commands = restart.get(name)
    return [name, commands ? { restart: commands } : {}]
  })
  return {
    ...settings,
    ...{ number, startedAt, state: 'running', wave: 0 },
    machines: Object.fromEntries(machines),
  }
}

export function tell(
  { number, group }: Pick<Rollout, 'number' | 'group'>,
  says: string,
  machine?: string,
): RolloutTold {
  return { rollout: number, group, ...(machine !== undefined && { machine }), says }
}
