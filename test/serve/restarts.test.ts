import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { createRestarts } from '../../src/serve/front/restarts.ts'

/** The pauses after lives that were too short, one after the other. */
const pauses = [0, 500, 1000, 2000, 4000, 8000, 16_000, 60_000, 60_000]

/** How long a process has served its machines; undefined: it ended before. Milliseconds. */
const life = fc.option(fc.nat(20_000), { nil: undefined })

suite('processes that are started again', () => {
  test('wait longer each time, until one has served for 10 s', () => {
    fc.assert(
      fc.property(fc.array(life, { maxLength: 40 }), (lives) => {
        let time = 0
        const restarts = createRestarts(() => time)
        for (const [index, servedMs] of lives.entries()) {
          time += 700_000
          if (servedMs !== undefined) {
            restarts.serves()
            time += servedMs
          }
          const before = lives.slice(0, index + 1)
          const short = before.length - 1 - before.findLastIndex((ms = 0) => ms >= 10_000)
          assert.equal(restarts.ended(), short === 0 ? 0 : pauses[Math.min(short, 9) - 1])
          assert.equal(restarts.isFailing(), short >= 8)
        }
      }),
    )
  })

  test('do not fail any more as soon as one has served for 10 s', () => {
    let time = 0
    const restarts = createRestarts(() => time)
    for (let count = 0; count < 9; count++) restarts.ended()
    restarts.serves()
    time += 9999
    assert.equal(restarts.isFailing(), true)
    time++
    assert.equal(restarts.isFailing(), false)
  })
})
