import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { ServeEvent } from '../../src/protocols/event.ts'
import { limitCheap, limitInvented } from '../../src/protocols/report-limit.ts'

const file = { kind: 'tftp', file: '/kernel', bytes: 0 } as const
const events = {
  missing: { ...file, step: 'missing' },
  begin: { ...file, step: 'begin' },
  mount: { kind: 'nfs', step: 'mount', path: '/srv' },
  refused: { kind: 'nfs', step: 'refuse', path: '/' },
} as const satisfies Record<string, ServeEvent>

suite('events that a single packet causes', () => {
  function open() {
    let now = 0
    const mayTell = limitCheap(() => now)
    const send = (event: ServeEvent, count: number) =>
      Array.from({ length: count }, () => mayTell(event)).filter(Boolean).length
    return { send, wait: (ms: number) => void (now += ms) }
  }

  test('are told until they are a flood, and again a while later', () => {
    const { send, wait } = open()
    for (const event of [events.missing, events.mount]) {
      assert.equal(send(event, 400), 400)
      assert.ok(send(event, 5000) <= 100)
      assert.equal(send(event, 1), 0)
    }
    wait(1000)
    assert.equal(send(events.missing, 200), 100)
  })

  test('do not reduce what is told of more important events', () => {
    const { send } = open()
    send(events.missing, 5000)
    assert.equal(send(events.refused, 1), 0)
    assert.equal(send(events.mount, 100), 100)
    assert.equal(send(events.begin, 5000), 5000)
  })
})

test('invented machines do not reduce what is told of known machines', () => {
  let now = 0
  const known = '52:54:00:00:00:01'
  const mayTell = limitInvented(
    (mac) => mac === known,
    () => now,
  )
  const invented = Array.from({ length: 5000 }, (_, machine) => ({
    ...{ ...events.mount, mac: `00:0c:01:00:${machine >> 8}:${machine & 255}` },
  }))
  assert.equal(invented.filter(mayTell).length, 500)
  assert.ok(mayTell({ ...events.mount, mac: known }))
  now += 1000
  assert.equal(invented.filter(mayTell).length, 100)
  const nameless = Array.from({ length: 5000 }, () => events.mount)
  assert.equal(nameless.filter(mayTell).length, 0)
  now += 1000
  assert.equal(nameless.filter(mayTell).length, 100)
})
