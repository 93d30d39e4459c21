import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { ServeEvent } from '../../src/protocols/event.ts'
import { limitCheap } from '../../src/protocols/report-limit.ts'

const file = { kind: 'tftp', file: '/kernel', bytes: 0 } as const
const events = {
  missing: { ...file, step: 'missing' },
  begin: { ...file, step: 'begin' },
  mount: { kind: 'nfs', step: 'mount', path: '/srv' },
  refused: { kind: 'nfs', step: 'refuse', path: '/' },
} as const satisfies Record<string, ServeEvent>

suite('what a single packet brings about', () => {
  function open() {
    const told: ServeEvent[] = []
    let now = 0
    const report = limitCheap(
      (event) => told.push(event),
      () => now,
    )
    const send = (event: ServeEvent, count: number) => {
      told.length = 0
      for (let sent = 0; sent < count; sent++) report(event)
      return told.length
    }
    return { send, wait: (ms: number) => void (now += ms) }
  }

  test('is told until it is a flood, and again a while later', () => {
    const { send, wait } = open()
    for (const event of [events.missing, events.mount]) {
      assert.equal(send(event, 400), 400)
      assert.ok(send(event, 5000) <= 100)
      assert.equal(send(event, 1), 0)
    }
    wait(1000)
    assert.equal(send(events.missing, 200), 100)
  })

  test('takes nothing from what is worth more', () => {
    const { send } = open()
    send(events.missing, 5000)
    assert.equal(send(events.refused, 1), 0)
    assert.equal(send(events.mount, 100), 100)
    assert.equal(send(events.begin, 5000), 5000)
  })
})
