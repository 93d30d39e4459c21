/** What is measured of a site as it is now. */
import type { MachineState } from '../../site/status.ts'
import { version } from '../../version.ts'
import type { ShownImages } from '../images.ts'
import type { ShownGroup, ShownMachine } from '../shown.ts'
import type { Seen } from '../view.ts'
import type { Metric, Sample } from './text.ts'

export interface Disk {
  /** Bytes. */
  size: number
  /** Bytes that the server's user may still write. */
  available: number
}

const shownDigits = 12

export function siteMetrics(seen: Seen, { images }: ShownImages, disk: Disk): Metric[] {
  const machines = [...seen.machines.values()].map(({ value }) => value)
  const groups = [...seen.groups.values()].map(({ value }) => value)
  const nameOf = new Map(images.map(({ id, name }) => [id, name]))
  const of = (value: (machine: ShownMachine) => number | undefined): Sample[] =>
    machines.flatMap((each) => {
      const measured = value(each)
      return measured === undefined
        ? []
        : [{ labels: { machine: each.machine, ...about(each) }, value: measured }]
    })
  return [
    {
      ...{ name: 'netimage_build_info', type: 'gauge' },
      help: 'The version of netimage.',
      samples: [{ labels: { version }, value: 1 }],
    },
    {
      ...{ name: 'netimage_machines', type: 'gauge' },
      help: 'Machines by how their last attempt to boot goes, or has gone. new: none has begun.',
      samples: countMachines(machines),
    },
    {
      ...{ name: 'netimage_machine_info', type: 'gauge' },
      help: 'What a machine has booted last, and the verdict on it.',
      samples: machines.map((each) => ({ labels: infoOf(each, nameOf), value: 1 })),
    },
    {
      ...{ name: 'netimage_machine_last_seen_timestamp_seconds', type: 'gauge' },
      help: 'When a machine gave its last sign, to a minute or so.',
      samples: of(({ seenAt }) => (seenAt === undefined ? undefined : seenAt / 1000)),
    },
    {
      ...{ name: 'netimage_machine_alarms', type: 'gauge' },
      help: 'How many alarms a machine has: reasons for which a person is to look at it.',
      samples: of(({ alarms }) => alarms.length),
    },
    {
      ...{ name: 'netimage_machine_overdue', type: 'gauge' },
      help: 'Whether the boot of a machine has given no sign for too long.',
      samples: of(({ boot, overdue }) => (boot ? Number(overdue !== undefined) : undefined)),
    },
    {
      ...{ name: 'netimage_layer_bytes', type: 'gauge' },
      help: 'What a machine has written takes this much of the disk.',
      samples: of(({ layer }) => layer?.bytes),
    },
    {
      ...{ name: 'netimage_rollout_machines', type: 'gauge' },
      help: 'Machines of the newest roll-out of a group, by wave and how they stand.',
      samples: groups.flatMap(countStands),
    },
    {
      ...{ name: 'netimage_rollout_halted', type: 'gauge' },
      help: 'Whether the newest roll-out of a group has halted.',
      samples: groups.map(({ group, rollout, state }) => ({
        ...{ labels: { group, rollout }, value: Number(state === 'halted') },
      })),
    },
    {
      ...{ name: 'netimage_images_bytes', type: 'gauge' },
      help: 'The NARs of all images. Images share store paths, which are counted for each of them.',
      samples: [{ value: images.reduce((sum, { narBytes }) => sum + narBytes, 0) }],
    },
    {
      ...{ name: 'netimage_disk_size_bytes', type: 'gauge' },
      help: 'The size of the file system that has the state directory.',
      samples: [{ value: disk.size }],
    },
    {
      ...{ name: 'netimage_disk_available_bytes', type: 'gauge' },
      help: 'How much the server can still write there.',
      samples: [{ value: disk.available }],
    },
  ]
}

function about({ name = '', group = '' }: ShownMachine) {
  return { name, group }
}

function infoOf(each: ShownMachine, nameOf: ReadonlyMap<string, string>) {
  const { machine, last } = each
  const { number = '', image = '', verdict = '' } = last?.generation ?? {}
  return {
    ...{ machine, ...about(each), generation: number, verdict },
    ...{ image: image.slice(0, shownDigits), image_name: nameOf.get(image) ?? '' },
  }
}

const states: readonly (MachineState | 'new')[] = [
  ...(['up', 'settling', 'booting', 'waiting', 'unseen', 'failed', 'late', 'void', 'new'] as const),
]

/** Each state of each group has a number, so that a graph has no gaps. */
function countMachines(machines: readonly ShownMachine[]): Sample[] {
  const byGroup = Map.groupBy(machines, ({ group = '' }) => group)
  return [...byGroup].flatMap(([group, all]) =>
    states.map((state) => {
      const value = all.filter(({ last }) => (last?.state ?? 'new') === state).length
      return { labels: { group, state }, value }
    }),
  )
}

function countStands({ group, rollout, machines, machinesOfWaves }: ShownGroup): Sample[] {
  return machinesOfWaves.flatMap((names, place) => {
    const byStand = Map.groupBy(names, (name) => machines[name] ?? 'pending')
    return [...byStand].map(([state, { length }]) => ({
      ...{ labels: { group, rollout, wave: place + 1, state }, value: length },
    }))
  })
}
