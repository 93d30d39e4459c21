// Files of sites that somebody could write, and what they mean.

import fc from 'fast-check'
import type {
  Desired,
  DesiredMachine,
  Group,
  Share,
  Wave,
} from '../../../../src/site/desired/desired.ts'
import { formatDuration } from '../../../../src/site/desired/duration.ts'

/** As the parser makes objects. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true })
}

const name = fc.stringMatching(/^[a-z]([a-z0-9-]{0,6}[a-z0-9])?$/).filter((each) => each !== 'any')
const mac = fc.stringMatching(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/)
const pattern = fc.stringMatching(/^[a-z0-9:]{0,5}\*[a-z0-9:]{0,5}$/)
const selectors = fc.array(fc.oneof(name, mac, pattern), { maxLength: 5 })
const share: fc.Arbitrary<Share> = fc.oneof(
  record({ count: fc.integer({ min: 1, max: 1000 }) }),
  record({ percent: fc.integer({ min: 1, max: 100 }) }),
)
const wave: fc.Arbitrary<Wave> = record({
  members: fc.oneof(fc.constant('rest' as const), share, record({ machines: selectors })),
  pause: fc.boolean(),
})
const time = (min: number) => fc.integer({ min, max: 100_000 }).map((seconds) => seconds * 1000)

const group: fc.Arbitrary<Group> = record({
  name,
  system: fc.stringMatching(/^[ -~ä-ü]{1,20}$/),
  machines: selectors,
  waves: fc.array(wave, { minLength: 1, maxLength: 4 }),
  maxUnavailable: share,
  health: record({
    deadline: time(1),
    tries: fc.integer({ min: 1, max: 100 }),
    settle: time(0),
    tcp: fc.array(fc.integer({ min: 1, max: 65_535 }), { maxLength: 3 }),
  }),
  halt: share,
  rebuild: fc.constantFrom('allow', 'refuse'),
  keep: fc.integer({ min: 0, max: 100 }),
})

const program = fc.array(fc.stringMatching(/^[!-~ ä]{1,10}$/), { minLength: 1, maxLength: 4 })
const machine: fc.Arbitrary<DesiredMachine> = fc.record(
  {
    name,
    macs: fc.array(mac, { maxLength: 2 }),
    serials: fc.array(fc.stringMatching(/^([0-9a-f]{8}){1,2}$/), { maxLength: 2 }),
    hostName: name,
    address: fc.ipV4(),
    reboot: program,
    power: program,
  },
  { requiredKeys: ['name', 'macs', 'serials'], noNullPrototype: true },
)

export const arbitraryDesired: fc.Arbitrary<Desired> = record({
  groups: fc.uniqueArray(group, { selector: ({ name }) => name, maxLength: 3 }),
  machines: fc.uniqueArray(machine, { selector: ({ name }) => name, maxLength: 4 }),
})

/** The content of a file that says this. */
export function documentOf({ groups, machines }: Desired): object {
  return {
    group: Object.fromEntries(groups.map((each) => [each.name, documentOfGroup(each)])),
    machine: Object.fromEntries(machines.map((each) => [each.name, documentOfMachine(each)])),
  }
}

function documentOfGroup({
  name: _name,
  waves,
  maxUnavailable,
  health,
  halt,
  ...group
}: Group): object {
  return {
    ...group,
    waves: waves.map(documentOfWave),
    'max-unavailable': written(maxUnavailable),
    health: {
      ...health,
      deadline: formatDuration(health.deadline),
      settle: formatDuration(health.settle),
    },
    halt: { bad: written(halt) },
  }
}

function documentOfWave({ members, pause }: Wave): unknown {
  const isList = members !== 'rest' && 'machines' in members
  const short = isList ? members.machines : members === 'rest' ? 'rest' : written(members)
  if (!pause) return short
  return isList ? { machines: short, pause } : { share: short, pause }
}

function documentOfMachine({
  name: _name,
  macs,
  serials,
  hostName,
  ...machine
}: DesiredMachine): object {
  const [mac, ...others] = macs
  return {
    ...machine,
    ...(mac !== undefined && { mac: others.length === 0 ? mac.toUpperCase() : macs }),
    ...(serials.length > 0 && { serial: serials }),
    ...(hostName !== undefined && { 'host-name': hostName }),
  }
}

function written(share: Share): number | string {
  return 'count' in share ? share.count : `${share.percent}%`
}
