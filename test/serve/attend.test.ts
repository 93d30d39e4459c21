// The server learns from all events, but records and shows only a limited number.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { followBoots } from '../../src/boots/follow.ts'
import type { ServeEvent } from '../../src/protocols/event.ts'
import { attend } from '../../src/serve/attend.ts'

const macOf = (number: number) => `52:54:00:00:${(number >> 8).toString(16).padStart(2, '0')}:00`
const addressOf = (number: number) => `10.0.${number >> 8}.${number & 255}`

function open(isAllowed: (name: string) => boolean) {
  const given = new Map<string, string>()
  const [booted, came, signs]: [string[], string[], string[]] = [[], [], []]
  const [told, kept]: [ServeEvent[], [string, boolean | undefined][]] = [[], []]
  const attention = attend({
    follower: followBoots({
      partOf: () => 'loader',
      nameOf: (address) => address,
      isServed: isAllowed,
      isRoot: () => true,
    }),
    identities: { isAllowed, learnAddress: (mac, address) => void given.set(address, mac) },
    onSign: (name, sign) => void signs.push(`${name} ${'step' in sign ? sign.step : sign.kind}`),
    onBoot: (name) => void booted.push(name),
    onCome: ({ machine }) => void came.push(machine),
    record: { add: ({ machine }, _event, _at, isServed) => void kept.push([machine, isServed]) },
    see: (_boot, event) => told.push(event),
  })
  return { ...attention, given, booted, came, signs, told, kept }
}

suite('events', () => {
  test('are all learned from, even if they are too many to be shown', () => {
    const { learn, tell, given, booted, told } = open(() => true)
    const count = 3000
    for (let number = 0; number < count; number++) {
      const [mac, address] = [`${macOf(number)}-${number}`, addressOf(number)]
      const dhcp = { kind: 'dhcp', proxy: false, mac, address } as const
      learn({ ...dhcp, step: 'discover', architecture: 0 })
      learn({ ...dhcp, step: 'acknowledge' })
      // Loaders and machines without firmware do this.
      const mount: ServeEvent = { kind: 'nfs', step: 'mount', path: '/srv', mac }
      learn(mount)
      tell(mount)
    }
    assert.equal(given.size, count)
    assert.equal(booted.length, count)
    assert.ok(told.length < count, `${told.length} told`)
  })

  test('are signs of a machine once for each step and each trouble', () => {
    const { learn, signs } = open(() => true)
    const file = { kind: 'http', file: '/x', bytes: 0, mac: 'a' } as const
    learn({ kind: 'dhcp', proxy: false, step: 'discover', architecture: 0, mac: 'a' })
    for (const step of ['begin', 'end', 'begin', 'missing', 'missing'] as const) {
      learn({ ...file, step })
    }
    assert.deepEqual(signs, ['a dhcp', 'a loader', 'a trouble'])
  })

  test('of one packet, whose sender may be forged, do not show that a machine is real', () => {
    const { learn, came } = open(() => true)
    const mount = { kind: 'nfs', step: 'mount', path: '/srv' } as const
    learn({ ...mount, mac: 'a', transport: 'udp' })
    learn({ kind: 'dhcp', proxy: false, step: 'request', mac: 'b' })
    learn({ ...mount, mac: 'c' })
    assert.deepEqual(came, ['c'])
  })

  test('of strangers do not begin a boot, and are recorded apart', () => {
    const { learn, tell, booted, kept } = open((name) => name === 'a')
    for (const mac of ['a', 'b']) {
      const event: ServeEvent = { kind: 'tftp', step: 'begin', file: '/x', bytes: 0, mac }
      learn(event)
      tell(event)
    }
    assert.deepEqual(booted, ['a'])
    assert.deepEqual(kept, [
      ['a', true],
      ['b', false],
    ])
  })
})
