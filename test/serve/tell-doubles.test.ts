// How often a person is told that two IP addresses have one hardware address.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { tellDoubles } from '../../src/serve/tell-doubles.ts'

function open() {
  let now = 0
  const told: string[] = []
  const calls = tellDoubles(
    ({ name, second }) => void told.push(`${name} ${second}`),
    () => now,
  )
  return {
    told,
    call: (name: string, second: string) => calls({ name, first: '10.0.0.1', second }),
    wait: (minutes: number) => void (now += minutes * 60_000),
  }
}

suite('an address that must wait', () => {
  test('is told of once, however often others wait in between', () => {
    const { told, call, wait } = open()
    for (let minute = 0; minute < 60; minute++) {
      for (const second of ['a', 'b', 'a', 'b']) call('one', second)
      wait(1)
    }
    assert.deepEqual(told, ['one a', 'one b'])
  })

  test('is told of once in a minute, however many a machine has', () => {
    const { told, call, wait } = open()
    for (let minute = 0; minute < 10; minute++) {
      for (let address = 0; address < 5000; address++) call('one', `${address}`)
      call('two', `${minute}`)
      wait(1)
    }
    assert.equal(told.filter((text) => text.startsWith('one ')).length, 10)
    assert.equal(told.filter((text) => text.startsWith('two ')).length, 10)
  })

  test('is not told of in a flood of made-up hardware addresses', () => {
    const { told, call } = open()
    for (let machine = 0; machine < 50_000; machine++) call(`${machine}`, 'a')
    assert.equal(told.length, 500)
  })
})
