import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { ServeEvent } from '../../src/protocols/event.ts'
import { limitCheap, limitReports } from '../../src/protocols/report-limit.ts'

const file = { kind: 'tftp', file: '/kernel', bytes: 0 } as const
const events = {
  missing: { ...file, step: 'missing' },
  begin: { ...file, step: 'begin' },
  mount: { kind: 'nfs', step: 'mount', path: '/srv' },
  refused: { kind: 'nfs', step: 'refuse', path: '/' },
} as const satisfies Record<string, ServeEvent>

suite('events that a single packet causes', () => {
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

  test('are reported until they are a flood, and again a while later', () => {
    const { send, wait } = open()
    for (const event of [events.missing, events.mount]) {
      assert.equal(send(event, 400), 400)
      assert.ok(send(event, 5000) <= 100)
      assert.equal(send(event, 1), 0)
    }
    wait(1000)
    assert.equal(send(events.missing, 200), 100)
  })

  test('do not reduce the reports of more important events', () => {
    const { send } = open()
    send(events.missing, 5000)
    assert.equal(send(events.refused, 1), 0)
    assert.equal(send(events.mount, 100), 100)
    assert.equal(send(events.begin, 5000), 5000)
  })
})

test('invented machines do not reduce the reports of known machines', () => {
  const told: (string | undefined)[] = []
  let now = 0
  const known = '52:54:00:00:00:01'
  const report = limitReports(
    ({ mac }) => told.push(mac),
    (mac) => mac === known,
    () => now,
  )
  for (let machine = 0; machine < 5000; machine++) {
    report({ ...events.mount, mac: `00:0c:01:00:${machine >> 8}:${machine & 255}` })
  }
  assert.equal(told.length, 500)
  report({ ...events.mount, mac: known })
  assert.equal(told.at(-1), known)
  now += 1000
  for (let count = 0; count < 5000; count++) report(events.mount)
  assert.equal(told.length, 501 + 100)
})
