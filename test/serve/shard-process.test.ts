import assert from 'node:assert/strict'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { mock, suite, test } from 'node:test'
import { watchForHang } from '../../src/serve/front/hang.ts'
import { startShardProcess } from '../../src/serve/front/shard-process.ts'
import type { ShardStart } from '../../src/serve/shard/messages.ts'
import { assertGone } from '../support/processes.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'

const module = pathToFileURL(join(import.meta.dirname, 'support/odd-shard-program.ts'))

function startOdd(now = () => performance.now()) {
  const ends: string[] = []
  const answers: number[] = []
  const over = Promise.withResolvers<Error>()
  let readies = 0
  const shard = startShardProcess({
    ...{ module, mostProcessorMs: 300, now },
    ...{ start: () => start, onError: assert.ifError, onGiveUp: over.resolve },
    onReady: () => void readies++,
    onEnd: (reason) => void ends.push(reason),
    onMessage: (message) => 'id' in message && answers.push(message.id),
  })
  return { shard, ends, answers, over: over.promise, readies: () => readies }
}

const start: ShardStart = {
  ...{ number: 0, count: 1, state: '', allowed: 'any', ephemeral: false, layerSize: undefined },
  place: { name: 'lo', address: '127.0.0.1', network: undefined },
  ...{ http: '', defaults: [], handleKey: Buffer.alloc(32), boots: [] },
  ...{ addresses: new Map(), processors: new Map() },
}

const learn = {
  kind: 'learn',
  event: { kind: 'root', step: 'init', address: '127.0.0.1' },
} as const

suite('the process of a shard', () => {
  test('is started again if it ends, and then gets what was sent meanwhile', async () => {
    const { shard, ends, answers, readies } = startOdd()
    await shard.ready
    shard.send({ kind: 'tell' })
    await waitUntil('it has ended', () => ends.length === 1)
    shard.send({ kind: 'images', id: 5 })
    await waitUntil('it answers', () => answers.length === 1)
    assert.deepEqual(ends, ['its status is 7'])
    assert.deepEqual(answers, [5])
    assert.equal(readies(), 2)
    const { pid } = shard
    await shard.close()
    await assertGone(pid ?? assert.fail())
    assert.equal(ends.length, 1)
  })

  test('is replaced if it spins for ever', async () => {
    const { shard, ends, answers } = startOdd()
    await shard.ready
    const { pid } = shard
    shard.send(learn)
    await waitUntil('it is replaced', () => ends.length === 1)
    await assertGone(pid ?? assert.fail())
    assert.match(ends[0] ?? '', /processor time without an answer/)
    shard.send({ kind: 'images', id: 6 })
    await waitUntil('another one answers', () => answers.includes(6))
    await shard.close()
  })

  test('is not started again for ever', async () => {
    const { shard, ends, over } = startOdd(() => 0)
    await shard.ready
    for (let count = 1; count < 5; count++) {
      shard.send({ kind: 'tell' })
      await waitUntil('it has ended', () => ends.length === count)
    }
    shard.send({ kind: 'tell' })
    const error = await waitFor('it is given up', over)
    assert.match(error.message, /ended again and again: its status is 7/)
    assert.equal(shard.send({ kind: 'tell' }), false)
    await shard.close()
  })
})

suite('a process that does not answer', () => {
  function watch(used: () => number | undefined) {
    mock.timers.enable({ apis: ['setInterval', 'setImmediate'] })
    const hangs: string[] = []
    const pings: number[] = []
    const watching = watchForHang({
      ping: (id) => void pings.push(id),
      processorMs: used,
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
