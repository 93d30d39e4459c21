/** Counts what happens while the server runs. */
import type { Boot } from '../../boots/follow.ts'
import { bootSteps, type BootStep } from '../../boots/step.ts'
import type { ServeEvent } from '../../protocols/event.ts'
import type { ProcedureCounts } from '../../protocols/nfs/procedure-counts.ts'
import { remember } from '../../remember.ts'
import type { Told } from '../../site/life/life.ts'
import { kindOfReason, reasonKinds } from '../../site/life/reasons.ts'
import { createHistogram } from './histogram.ts'
import type { Labels, Metric, Sample } from './text.ts'

export interface Counts {
  /** An event of a boot. */
  see: (boot: Boot, event: ServeEvent) => void
  told: (told: Told) => void
  /** @param groups of machines, by machine */
  metrics: (groups: ReadonlyMap<string, string>) => Metric[]
}

/** Counts by labels. */
interface Counter {
  add(labels: Labels, more: number): void
  samples(): Sample[]
}

const results = ['up', 'failed', 'void'] as const
type Result = (typeof results)[number]

/** Seconds. */
const limits = [1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600]

/** @param operations of NFS, until now */
export function createCounts(operations: () => ProcedureCounts): Counts {
  const boots = createCounter()
  const rollbacks = createCounter()
  const dhcp = createCounter()
  const bytes = { tftp: 0, http: 0 }
  const took = new Map(bootSteps.map((step) => [step, createHistogram(limits)]))
  /** The steps of the last boots that are counted. */
  const counted = new Map<string, { started: number; steps: Set<BootStep> }>()
  /** What is counted once the groups of machines are known: results of boots, and reasons of rollbacks. */
  let ended: { machine: string; result: Result }[] = []
  const back = new Map<string, string>()

  function countSteps({ machine, started, steps }: Boot): void {
    const known = counted.get(machine)
    const before = known?.started === started ? known.steps : new Set<BootStep>()
    for (const step of bootSteps) {
      const at = steps[step]
      if (at === undefined || before.has(step)) continue
      before.add(step)
      // The first step takes no time. Of a machine that was up before the server, no boot is seen.
      if (at <= started) continue
      took.get(step)?.add((at - started) / 1000)
      if (step === 'registered') end(machine, 'up')
    }
    remember(counted, machine, { started, steps: before })
  }

  function end(machine: string, result: Result): void {
    ended.push({ machine, result })
    if (ended.length > mostEnded) flush(new Map())
  }

  function flush(groups: ReadonlyMap<string, string>): void {
    // A count that begins with 1 would be no increase.
    for (const group of new Set(['', ...groups.values()])) {
      for (const result of results) boots.add({ group, result }, 0)
      for (const reason of reasonKinds) rollbacks.add({ group, reason }, 0)
    }
    const groupOf = (machine: string) => groups.get(machine) ?? ''
    for (const { machine, result } of ended) boots.add({ group: groupOf(machine), result }, 1)
    ended = []
    for (const [machine, reason] of back) rollbacks.add({ group: groupOf(machine), reason }, 1)
    back.clear()
  }

  return {
    see(boot, event) {
      countSteps(boot)
      if (event.kind === 'dhcp') dhcp.add(dhcpLabels[event.step], 1)
      if (event.kind !== 'tftp' && event.kind !== 'http') return
      if (event.step === 'end' || event.step === 'fail') bytes[event.kind] += event.bytes
    },
    told({ machine, kind, reason }) {
      if (kind === 'attempt failed' || kind === 'alarm') end(machine, 'failed')
      if (kind === 'attempt void') end(machine, 'void')
      if (kind === 'bad') {
        const why = kindOfReason(reason)
        remember(back, machine, why)
        // Of these, no failed attempt is told.
        if (why === 'too-late' || why === 'no-answer') end(machine, 'failed')
      }
      // There is no other generation to go back to.
      if (kind === 'stays') back.delete(machine)
    },
    metrics(groups) {
      flush(groups)
      return [
        {
          ...{ name: 'netimage_boots_total', type: 'counter' },
          help: 'Boots since the server started: came up, failed, or do not count (void).',
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
const mostEnded = 10_000

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
