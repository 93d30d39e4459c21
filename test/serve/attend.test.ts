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
  const report = attend({
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
  return { report, given, booted, came, signs, told, kept }
}

suite('events', () => {
  test('are all learned from, even if they are too many to be shown', () => {
    const { report, given, booted, told } = open(() => true)
    const count = 3000
    for (let number = 0; number < count; number++) {
      const [mac, address] = [`${macOf(number)}-${number}`, addressOf(number)]
      const dhcp = { kind: 'dhcp', proxy: false, mac, address } as const
      report({ ...dhcp, step: 'discover', architecture: 0 }, false)
      report({ ...dhcp, step: 'acknowledge' }, false)
      // Loaders and machines without firmware do this.
      const mount: ServeEvent = { kind: 'nfs', step: 'mount', path: '/srv', mac }
      report(mount)
    }
    assert.equal(given.size, count)
    assert.equal(booted.length, count)
    assert.ok(told.length < count, `${told.length} told`)
    assert.ok(told.every(({ kind }) => kind === 'nfs'))
  })

  test('are signs of a machine once for each step and each trouble', () => {
    const { report, signs } = open(() => true)
    const file = { kind: 'http', file: '/x', bytes: 0, mac: 'a' } as const
    report({ kind: 'dhcp', proxy: false, step: 'discover', architecture: 0, mac: 'a' })
    for (const step of ['begin', 'end', 'begin', 'missing', 'missing'] as const) {
      report({ ...file, step })
    }
    assert.deepEqual(signs, ['a dhcp', 'a loader', 'a trouble'])
  })

  test('of one packet, whose sender may be forged, do not show that a machine is real', () => {
    const { report, came } = open(() => true)
    const mount = { kind: 'nfs', step: 'mount', path: '/srv' } as const
    report({ ...mount, mac: 'a', transport: 'udp' })
    report({ kind: 'dhcp', proxy: false, step: 'request', mac: 'b' })
    report({ ...mount, mac: 'c' })
    assert.deepEqual(came, ['c'])
  })

  test('of strangers do not begin a boot, and are recorded apart', () => {
    const { report, booted, kept } = open((name) => name === 'a')
    for (const mac of ['a', 'b']) {
      const event: ServeEvent = { kind: 'tftp', step: 'begin', file: '/x', bytes: 0, mac }
      report(event)
    }
    assert.deepEqual(booted, ['a'])
    assert.deepEqual(kept, [
      ['a', true],
      ['b', false],
    ])
  })
})
