/** Counts what happens while the server runs. */
import type { Boot } from '../../boots/follow.ts'
import { bootSteps, type BootStep } from '../../boots/step.ts'
import type { ServeEvent } from '../../protocols/event.ts'
import type { ProcedureCounts } from '../../protocols/nfs/procedure-counts.ts'
import { remember } from '../../remember.ts'
import type { Told } from '../../site/life/life.ts'
import { powerCutMs } from '../../site/life/power-cut.ts'
import { createHistogram } from './histogram.ts'
import type { Labels, Metric, Sample } from './text.ts'

export interface Counts {
  /** An event of a boot. */
  see: (boot: Boot, event: ServeEvent) => void
  told: (told: Told) => void
  /** @param groups of machines, by machine. Undefined if the site cannot be read: then nothing is added */
  metrics: (groups: ReadonlyMap<string, string> | undefined) => Metric[]
}

/** Counts by labels. */
interface Counter {
  add(labels: Labels, more: number): void
  samples(): Sample[]
}

const results = ['up', 'failed', 'void'] as const
type Result = (typeof results)[number]

/** Why a machine went back: as `Why`. */
const reasons = ['too-late', 'no-answer', 'started-again', 'other'] as const

/** Seconds. */
const limits = [1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600]

/**
 * Something that is added to a counter later: the group of the machine is known only if somebody reads the
 * metrics, and a failure does not count if it turns out that the power was cut.
 */
interface Pending {
  machine: string
  counter: Counter
  /** Without the group. */
  labels: Labels
  /** From this time on, it counts for certain. */
  finalAt: number
}

/**
 * @param operations of NFS, until now
 * @param now milliseconds, by a clock that nobody sets
 */
export function createCounts(
  operations: () => ProcedureCounts,
  now: () => number = () => performance.now(),
): Counts {
  const boots = createCounter()
  const rollbacks = createCounter()
  const dhcp = createCounter()
  const bytes = { tftp: 0, http: 0 }
  const took = new Map(bootSteps.map((step) => [step, createHistogram(limits)]))
  /** The steps that are counted, of the last boot of each machine that came further than its first step. */
  const counted = new Map<string, { started: number; steps: Set<BootStep> }>()
  /** The oldest first. */
  let pending: Pending[] = []

  function countSteps({ machine, started, steps }: Boot): void {
    const known = counted.get(machine)
    const before = known?.started === started ? known.steps : new Set<BootStep>()
    for (const step of bootSteps) {
      const at = steps[step]
      // The first step takes no time. If a machine was up before the server started, its steps have no times.
      if (at === undefined || at <= started || before.has(step)) continue
      before.add(step)
      took.get(step)?.add((at - started) / 1000)
      if (step === 'registered') end(machine, 'up')
    }
    // A machine that is not served only asks DHCP. `remember` drops the oldest entries, so thousands of such
    // machines must not be entries.
    if (before.size > 0) remember(counted, machine, { started, steps: before })
  }

  function add(what: Omit<Pending, 'finalAt'>): void {
    const isFinal = what.counter === boots && what.labels['result'] !== 'failed'
    pending.push({ ...what, finalAt: now() + (isFinal ? 0 : powerCutMs) })
    if (pending.length > mostPending) flush(new Map(), Infinity)
  }

  function end(machine: string, result: Result): void {
    add({ machine, counter: boots, labels: { result } })
  }

  /** Removes the newest pending entry of the machine for this counter, because it has turned out to be wrong. */
  function takeBack(machine: string, counter: Counter): void {
    const place = pending.findLastIndex(
      (each) => each.machine === machine && each.counter === counter,
    )
    if (place !== -1) pending.splice(place, 1)
  }

  function flush(groups: ReadonlyMap<string, string>, until: number): void {
    // Prometheus sees an increase only if a counter was there before with 0.
    for (const group of new Set(['', ...groups.values()])) {
      for (const result of results) boots.add({ group, result }, 0)
      for (const reason of reasons) rollbacks.add({ group, reason }, 0)
    }
    for (const { machine, counter, labels, finalAt } of pending) {
      if (finalAt <= until) counter.add({ group: groups.get(machine) ?? '', ...labels }, 1)
    }
    pending = pending.filter(({ finalAt }) => finalAt > until)
  }

  return {
    see(boot, event) {
      countSteps(boot)
      if (event.kind === 'dhcp') dhcp.add(dhcpLabels[event.step], 1)
      if (event.kind !== 'tftp' && event.kind !== 'http') return
      if (event.step === 'end' || event.step === 'fail') bytes[event.kind] += event.bytes
    },
    told({ machine, kind, why }) {
      if (kind === 'attempt failed' || kind === 'alarm') end(machine, 'failed')
      if (kind === 'attempt void') {
        if (why === 'power-cut') takeBack(machine, boots)
        end(machine, 'void')
      }
      if (kind === 'bad') {
        add({ machine, counter: rollbacks, labels: { reason: why ?? 'other' } })
        // With these two, the server tells only the verdict, and no failed attempt.
        if (why === 'too-late' || why === 'no-answer') end(machine, 'failed')
      }
      // `stays`: there is no other generation, so the machine did not go back.
      if (kind === 'stays' || kind === 'taken back') takeBack(machine, rollbacks)
    },
    metrics(groups) {
      if (groups) flush(groups, now())
      return [
        {
          ...{ name: 'netimage_boots_total', type: 'counter' },
          help: 'Boots since the server started: came up, failed, or do not count (void). One that came up can fail later.',
          samples: boots.samples(),
        },
        {
          ...{ name: 'netimage_boot_seconds', type: 'histogram' },
          help: 'From the start of a boot until the machine reached a step.',
          samples: [...took].flatMap(([step, histogram]) => histogram.samples({ step })),
        },
        {
          ...{ name: 'netimage_rollbacks_total', type: 'counter' },
          help: 'Times that the server found a generation bad, and the machine went back to another one.',
          samples: rollbacks.samples(),
        },
        {
          ...{ name: 'netimage_nfs_requests_total', type: 'counter' },
          help: 'Operations of NFS that succeeded, by procedure.',
          samples: Object.entries(operations()).map(([procedure, value = 0]) => ({
            ...{ labels: { procedure }, value },
          })),
        },
        {
          ...{ name: 'netimage_tftp_bytes_total', type: 'counter' },
          help: 'Bytes of boot files that were sent by TFTP.',
          samples: [{ value: bytes.tftp }],
        },
        {
          ...{ name: 'netimage_http_bytes_total', type: 'counter' },
          help: 'Bytes of boot files that were sent by HTTP.',
          samples: [{ value: bytes.http }],
        },
        {
          ...{ name: 'netimage_dhcp_packets_total', type: 'counter' },
          help: 'Packets of DHCP. In a flood, not all of them are counted.',
          samples: dhcp.samples(),
        },
      ]
    },
  }
}

/** Nobody has asked for the metrics for long. Then the groups of these boots are not told. */
const mostPending = 10_000

const [received, sent] = ['received', 'sent']
const dhcpLabels: Record<Extract<ServeEvent, { kind: 'dhcp' }>['step'], Labels> = {
  discover: { op: received, type: 'discover' },
  request: { op: received, type: 'request' },
  decline: { op: received, type: 'decline' },
  release: { op: received, type: 'release' },
  offer: { op: sent, type: 'offer' },
  acknowledge: { op: sent, type: 'acknowledge' },
  refuse: { op: sent, type: 'refuse' },
}

function createCounter(): Counter {
  const counts = new Map<string, { labels: Labels; value: number }>()
  return {
    add(labels, more) {
      const key = JSON.stringify(labels)
      counts.set(key, { labels, value: (counts.get(key)?.value ?? 0) + more })
    },
    samples: () => [...counts.values()],
  }
}
