/** What the page tells of machines and groups, in the words of `netimage site status` and `netimage boots`. */
import { saysStall, stallOf, type Boot } from '../boots/follow.ts'
import { bootSteps, type BootStep, type Expectation } from '../boots/step.ts'
import type { LayerSize } from '../roots/store.ts'
import { saysStands, type GroupStatus, type RolloutStatus } from '../site/rollout/status.ts'
import type { Rollout } from '../site/rollout/rollout.ts'
import { whatNext } from '../site/rollout/what-next.ts'
import { statusInSite, type MachineInGroup, type SiteContext } from '../site/status.ts'
import type { Life } from '../site/life/life.ts'

/**
 * As in `netimage site status --json`, and more that a running server knows. Its `alarms` also have what is
 * overdue.
 */
export interface ShownMachine extends MachineInGroup {
  /** When it gave its last sign, to a minute or so. Milliseconds since 1970. */
  seenAt?: number
  /** The last boot, as in `netimage boots --json`. */
  boot?: Boot
  /** The boot has given no sign for too long. What should come next, and the likely causes. */
  overdue?: Pick<Expectation, 'next' | 'causes'>
  /** The files that the machine wrote. They are measured every ten minutes. */
  layer?: LayerSize
}

interface Around {
  boot: Boot | undefined
  layer: LayerSize | undefined
  /** Milliseconds since 1970. */
  now: number
}

export function shownMachine(
  life: Life,
  context: SiteContext,
  { boot, layer, now }: Around,
): ShownMachine {
  const { lastSignAt: seenAt } = life
  const stall = boot && stallOf(boot, now)
  const status = statusInSite(life, context)
  return {
    ...status,
    ...(stall && { alarms: [...status.alarms, alarmOf(boot, stall)] }),
    ...(seenAt !== undefined && { seenAt }),
    ...(boot && { boot }),
    ...(stall && { overdue: { next: stall.next, causes: stall.causes } }),
    ...(layer && { layer }),
  }
}

/**
 * A problem alone is no alarm: a machine that boots asks for files that there need not be. If the machine then
 * gives no sign for too long, the problem is a part of the alarm.
 */
function alarmOf({ trouble }: Boot, stall: Expectation): string {
  const last = trouble === undefined ? '' : `; the last problem: ${trouble}`
  return `its boot gives no sign: ${saysStall(stall)}${last}`
}

/** A group and its newest roll-out, as in `netimage site status --json`, and more. */
export interface ShownGroup extends RolloutStatus {
  /** Milliseconds since 1970. */
  startedAt: number
  /** The machines whose bad verdicts halted it. */
  haltedBy?: readonly string[]
  /** The machines of each wave, the first one first. */
  machinesOfWaves: readonly (readonly string[])[]
  /** `wave 2 of 3: 3 good, 1 booting` */
  says: string
  /** What a person can do so that it goes on: sentences without a dot. */
  whatNext: readonly string[]
  /** What a boot of its machines usually takes. */
  usualBoot?: UsualBoot
}

/** The medians of the last boots of machines that came up. */
export interface UsualBoot {
  /** How many boots these are. */
  boots: number
  /** From the start of the boot until each step. Milliseconds. */
  steps: Partial<Record<BootStep, number>>
}

export function shownGroup(
  { shown, rollout }: GroupStatus,
  boots: ReadonlyMap<string, Boot>,
  names: ReadonlyMap<string, string>,
): ShownGroup {
  const { startedAt, haltedBy, waves } = rollout
  const usualBoot = usualBootOf(rollout, boots)
  return {
    ...shown,
    ...{ startedAt, ...(haltedBy && { haltedBy }) },
    machinesOfWaves: waves.map(({ machines }) => machines),
    ...{ says: saysStands(shown), whatNext: whatNext(shown, names) },
    ...(usualBoot && { usualBoot }),
  }
}

function usualBootOf(
  { machines }: Rollout,
  boots: ReadonlyMap<string, Boot>,
): UsualBoot | undefined {
  const whole = Object.keys(machines).flatMap((machine) => {
    const boot = boots.get(machine)
    return boot && isWhole(boot) ? [boot] : []
  })
  if (whole.length === 0) return undefined
  const steps: UsualBoot['steps'] = {}
  for (const step of bootSteps) {
    const times = whole.flatMap(({ started, steps: { [step]: at } }) =>
      at === undefined ? [] : [at - started],
    )
    if (times.length > 0) steps[step] = median(times)
  }
  return { boots: whole.length, steps }
}

/** Of a machine that was up before the server started, no boot was seen. */
function isWhole({ started, steps: { registered } }: Boot): boolean {
  return registered !== undefined && registered > started
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((one, other) => one - other)
  const upper = sorted[Math.floor(sorted.length / 2)] ?? 0
  const lower = sorted[Math.floor((sorted.length - 1) / 2)] ?? 0
  return (lower + upper) / 2
}
