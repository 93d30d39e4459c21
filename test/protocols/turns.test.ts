// The time of the event loop that each machine gets. The clock is one that only work and pauses move.

import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { mock, suite, test } from 'node:test'
import { inTurn } from '../../src/protocols/turns.ts'

/** Milliseconds of one call. */
const callMs = 0.1

suite('a machine that always has work', () => {
  let time = 0
  let names = 0
  mock.method(performance, 'now', () => time)
  mock.timers.enable({ apis: ['setTimeout'] })

  /** A turn of the event loop, which takes a moment itself. */
  const turn = () =>
    new Promise<void>((resolve) => {
      setImmediate(() => {
        const before = Math.floor(time)
        time += 0.05
        mock.timers.tick(Math.floor(time) - before)
        resolve()
      })
    })

  /** @returns the time that it has got, and what ends its work */
  function startBusy() {
    const busy = { ms: 0, isEnding: false, name: `busy ${++names}` }
    const work = (end: number) => {
      while (!busy.isEnding && time < end) {
        time += callMs
        busy.ms += callMs
      }
      return !busy.isEnding
    }
    inTurn(busy.name, work)
    return busy
  }

  /** One call after the other, with a pause before each. @returns how long they took */
  async function boot(calls: number, pauseMs = 0.2): Promise<number> {
    const name = `boots ${++names}`
    const began = time
    for (let call = 0; call < calls; call++) {
      const asked = time + pauseMs
      while (time < asked) await turn()
      let isAnswered = false
      inTurn(name, () => {
        time += callMs
        isAnswered = true
        return false
      })
      while (!isAnswered) await turn()
    }
    return time - began
  }

  async function workFor(busy: { ms: number }, ms: number): Promise<void> {
    const end = busy.ms + ms
    while (busy.ms < end) await turn()
  }

  test('does not make the boots of others longer by more than a tenth', async () => {
    const alone = await boot(1000)
    const busy = startBusy()
    await workFor(busy, 2000)
    const beside = await boot(1000)
    busy.isEnding = true
    assert.ok(beside < alone * 1.1, `${beside} ms, ${alone} ms alone`)
  })

  // It may be a machine that copies a system, and others may call all the time.
  test('still gets a twentieth of the time if another one never pauses', async () => {
    const busy = startBusy()
    await workFor(busy, 2000)
    const before = busy.ms
    const beside = await boot(1000, 0.9)
    const got = busy.ms - before
    busy.isEnding = true
    assert.ok(got > beside * 0.04 && got < beside * 0.1, `${got} of ${beside} ms`)
  })

  test('has all the time if no other machine works', async () => {
    const busy = startBusy()
    await workFor(busy, 2000)
    const [began, before] = [time, busy.ms]
    await workFor(busy, 1000)
    assert.ok(busy.ms - before > (time - began) * 0.9)
    busy.isEnding = true
  })

  test('shares the time with another one like it', async () => {
    const [one, other] = [startBusy(), startBusy()]
    await workFor(one, 2000)
    const before = [one.ms, other.ms] as const
    await workFor(one, 1000)
    const got = [one.ms - before[0], other.ms - before[1]]
    ;[one.isEnding, other.isEnding] = [true, true]
    assert.ok(Math.abs((got[0] ?? 0) - (got[1] ?? 0)) < 100, `${got.join(' and ')} ms`)
  })
})
