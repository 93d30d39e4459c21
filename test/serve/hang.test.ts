import assert from 'node:assert/strict'
import { mock, suite, test } from 'node:test'
import { watchForHang } from '../../src/serve/front/hang.ts'

suite('a process that does not answer', () => {
  function watch(used: () => number | undefined) {
    mock.timers.enable({ apis: ['setInterval', 'setImmediate'] })
    const hangs: string[] = []
    const pings: number[] = []
    const watching = watchForHang({
      ping: (id) => void pings.push(id),
      ...{ processorMs: used, mostProcessorMs: 5000, mostLooks: 60 },
      onHang: (reason) => void hangs.push(reason),
    })
    return {
      ...{ hangs, pings, watching },
      passes(seconds: number) {
        for (let second = 0; second < seconds; second++) mock.timers.tick(1000)
        mock.timers.tick(0)
      },
      [Symbol.dispose]: () => mock.timers.reset(),
    }
  }

  test('hangs once it has used 5 s of processor time', () => {
    let used = 1000
    using watched = watch(() => used)
    watched.passes(30)
    assert.deepEqual([watched.hangs, watched.pings], [[], [1]])
    used += 5000
    watched.passes(1)
    assert.equal(watched.hangs.length, 1)
    watched.passes(100)
    assert.equal(watched.hangs.length, 1)
  })

  test('hangs if it has not answered for a minute, also if its processor time is not known', () => {
    using watched = watch(() => undefined)
    watched.passes(60)
    assert.deepEqual(watched.hangs, [])
    watched.passes(2)
    assert.equal(watched.hangs.length, 1)
  })

  test('does not hang if it answers, however much it works', () => {
    let used = 0
    using watched = watch(() => used)
    for (let second = 0; second < 100; second++) {
      used += 4000
      watched.passes(1)
      watched.watching.answered(watched.pings.at(-1) ?? 0)
    }
    assert.deepEqual(watched.hangs, [])
  })
})
