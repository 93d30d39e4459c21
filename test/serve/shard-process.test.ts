import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'
import { mock, suite, test, type TestContext } from 'node:test'
import { startShardProcess } from '../../src/serve/front/shard-process.ts'
import { version } from '../../src/version.ts'
import type { ShardStart } from '../../src/serve/shard/messages.ts'
import { netimageError } from '../support/errors.ts'
import { assertGone } from '../support/processes.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'

const module = pathToFileURL(join(import.meta.dirname, 'support/odd-shard-program.ts'))

function startOdd(
  now = () => performance.now(),
  startOf = (_count: number) => start,
  program = module,
) {
  const ends: string[] = []
  const failing: string[] = []
  const come: string[] = []
  let [readies, starts] = [0, 0]
  const shard = startShardProcess({
    ...{ module: program, mostProcessorMs: 300, mostStartProcessorMs: 1000, now },
    start: () => startOf(++starts),
    onReady: () => void readies++,
    onEnd({ reason, isUpdated }) {
      ends.push(isUpdated ? 'updated' : reason)
      if (shard.isFailing()) failing.push(reason)
    },
    onMessage(message) {
      if (message.kind === 'comes') come.push(message.machine)
      else assert.fail(message.kind)
    },
  })
  return {
    ...{
      shard,
      ends,
      failing,
      come,
      readies: () => readies,
      starts: () => starts,
    },
    order: (reason: string) =>
      shard.send('a machine', {
        kind: 'event',
        event: { kind: 'server', step: 'restart', reason },
        isTold: true,
      }),
    answer: () => waitFor('it answers', shard.ask('a machine', { about: 'images' })),
  }
}

const start: ShardStart = {
  ...{
    number: 0,
    count: 1,
    state: '',
    version,
    allowed: 'any',
    ephemeral: false,
    layerSize: undefined,
  },
  place: { name: 'lo', address: '127.0.0.1', network: undefined },
  ...{ http: '', defaults: [], handleKey: Buffer.alloc(32), boots: [] },
  ...{ addresses: new Map(), processors: new Map() },
}

const tooLong = 'NETIMAGE_TEST_TOO_LONG'

/** Makes the system start no process. Node throws this error, as it throws a lack of memory. */
function withoutProcesses(context: TestContext): void {
  process.env[tooLong] = 'x'.repeat(2 ** 18)
  context.after(() => delete process.env[tooLong])
}

/** Makes connections, of which the server has read nothing. */
async function createPairs() {
  const listener = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const address = listener.address()
  const port = typeof address === 'object' && address ? address.port : assert.fail()
  return {
    async make(): Promise<{ client: Socket; accepted: Socket }> {
      const accepted = Promise.withResolvers<Socket>()
      listener.once('connection', accepted.resolve)
      const client = connect(port, '127.0.0.1')
      return { client, accepted: await accepted.promise }
    },
    [Symbol.asyncDispose]: async () => void listener.close(),
  }
}

suite('the process of a shard', () => {
  test('is started again if it ends, and then gets what was sent meanwhile', async () => {
    const { shard, ends, answer, order, readies } = startOdd()
    await shard.ready
    order('end')
    await waitUntil('it has ended', () => ends.length === 1)
    assert.deepEqual(await answer(), [])
    assert.deepEqual(ends, ['its status is 7'])
    assert.equal(readies(), 2)
    const { pid } = shard
    await shard.close()
    await assertGone(pid ?? assert.fail())
    assert.equal(ends.length, 1)
  })

  test('that ends before it has read an event leaves the event to the next one', async () => {
    const { shard, ends, come, order, answer } = startOdd(undefined, (count) =>
      count === 1 ? { ...start, state: 'deaf' } : start,
    )
    await shard.ready
    const machines = ['one', 'two', 'three']
    for (const machine of machines) order(JSON.stringify({ kind: 'comes', machine }))
    await waitUntil('the next one has read the last', () => come.includes('three'))
    assert.deepEqual(await answer(), [])
    assert.deepEqual(come, machines)
    assert.equal(ends.length, 1)
    await shard.close()
  })

  test('gets connections one by one, so that those that wait go to the next process', async () => {
    const { shard, ends } = startOdd()
    await shard.ready
    const { pid } = shard
    await using pairs = await createPairs()
    const clients: Socket[] = []
    for (const protocol of ['nfs', 'http', 'nfs', 'nfs'] as const) {
      const { client, accepted } = await pairs.make()
      clients.push(client)
      shard.connect(
        '',
        { kind: 'connection', protocol, client: { address: '', name: '' } },
        accepted,
      )
    }
    const said = await waitFor('all connections end', Promise.all(clients.map(text)))
    assert.deepEqual(ends, ['its status is 7'])
    assert.deepEqual(said, [`from ${pid}`, '', `from ${shard.pid}`, `from ${shard.pid}`])
    assert.notEqual(shard.pid, pid)
    await shard.close()
    const { client, accepted } = await pairs.make()
    shard.connect(
      '',
      { kind: 'connection', protocol: 'nfs', client: { address: '', name: '' } },
      accepted,
    )
    assert.equal(await waitFor('a late connection ends', text(client)), '')
  })

  test('is replaced if it spins for ever', async () => {
    const { shard, ends, answer, order } = startOdd()
    await shard.ready
    const { pid } = shard
    order('spin')
    await waitUntil('it is replaced', () => ends.length === 1)
    await assertGone(pid ?? assert.fail())
    assert.match(ends[0] ?? '', /processor time without an answer/)
    assert.deepEqual(await answer(), [])
    await shard.close()
  })

  test('is started again also if setpriv is not there any more', async (context) => {
    const programs = temporaryDirectory()
    const setpriv = join(programs, 'setpriv')
    const script = '#!/bin/sh\nshift 3\n[ "$1" = true ] || exec "$@"\n'
    writeFileSync(setpriv, script, { mode: 0o755 })
    const { PATH } = process.env
    context.after(() => (process.env['PATH'] = PATH))
    process.env['PATH'] = programs
    const { shard, ends, answer, order } = startOdd()
    await shard.ready
    rmSync(setpriv)
    order('end')
    await waitUntil('it has ended', () => ends.length === 1)
    assert.deepEqual(await answer(), [])
    assert.deepEqual(ends, ['its status is 7'])
    await shard.close()
  })

  test('is started again if no process can be started for a while', async (context) => {
    const { shard, ends, answer, order, readies } = startOdd()
    await shard.ready
    withoutProcesses(context)
    order('end')
    await waitUntil('two more starts have failed', () => ends.length === 3)
    assert.equal(shard.pid, undefined)
    const asked = answer()
    delete process.env[tooLong]
    assert.deepEqual(await asked, [])
    assert.match(ends[1] ?? '', /could not be started: spawn.* E2BIG/)
    assert.equal(readies(), 2)
    await shard.close()
  })

  test('is replaced if it says what no shard says', async () => {
    let time = 0
    const { shard, ends, answer, order } = startOdd(() => time)
    await shard.ready
    for (const said of ['{"kind":"ready"}', '{"kind":"failed"}', '{"kind":"ready","boots":[]}']) {
      const before = ends.length
      order(said)
      // So the next one starts without a pause.
      time += 10_000
      await waitUntil('it is replaced', () => ends.length > before)
      assert.match(ends.at(-1) ?? '', /a message that no such process sends/)
      assert.deepEqual(await answer(), [])
    }
    await shard.close()
  })

  test('is replaced if it gives an answer that has nothing to do with the question', async () => {
    const { shard, ends, answer } = startOdd()
    await shard.ready
    const requester = { address: '127.0.0.2', protocol: 'tftp', file: 'kernel' } as const
    const asked = shard.ask('a machine', { about: 'trees', requester, name: 'a machine' })
    assert.equal(await waitFor('there is no answer', asked), 'no-answer')
    assert.equal(ends.length, 1)
    assert.match(ends[0] ?? '', /a message that no such process sends/)
    assert.deepEqual(await answer(), [])
    await shard.close()
  })

  test('may be of another version of netimage, and this is told', async () => {
    const { shard, ends, order, answer } = startOdd()
    await shard.ready
    order('{"kind":"other-version","version":"0.0.0-newer"}')
    await waitUntil('it has ended', () => ends.length === 1)
    assert.deepEqual(ends, ['updated'])
    assert.deepEqual(await answer(), [])
    await shard.close()
  })

  test('is asked no more for a machine that waits for very many answers, but for others', async () => {
    const { shard, answer } = startOdd()
    await shard.ready
    const asks = Array.from({ length: 65 }, () => shard.ask('greedy', { about: 'images' }))
    const other = answer()
    const answers = await waitFor('all are answered', Promise.all(asks))
    assert.deepEqual(
      answers.map((each) => each === 'no-answer'),
      asks.map((_, index) => index === 64),
    )
    assert.deepEqual(await other, [])
    assert.deepEqual(await shard.ask('greedy', { about: 'images' }), [])
    await shard.close()
  })

  test('is replaced if it spins for ever while it starts, and the next is not asked the same', async () => {
    const { shard, ends, starts, answer, order } = startOdd(undefined, (count) =>
      count === 2 ? { ...start, state: 'spins' } : start,
    )
    await shard.ready
    order('end')
    await waitUntil('another one starts', () => starts() === 2)
    const client = { address: '127.0.0.2', name: 'a machine' }
    const asked = shard.ask('a machine', { about: 'call', bytes: Buffer.alloc(0), client })
    assert.equal(await waitFor('it is given up', asked), 'no-answer')
    assert.deepEqual(await answer(), [])
    assert.equal(ends.length, 2)
    assert.match(ends[1] ?? '', /processor time without an answer/)
    await shard.close()
  })
})

test('a process that cannot be started at all is an error', async (context) => {
  withoutProcesses(context)
  const { shard, ends } = startOdd()
  await assert.rejects(shard.ready, /could not be started: spawn.* E2BIG/)
  assert.deepEqual(ends, [])
  await waitFor('it is closed', shard.close())
})

test('a process of another version of netimage opens nothing, and this is told', async () => {
  const state = temporaryDirectory()
  const program = pathToFileURL(join(import.meta.dirname, '../../src/serve/shard/main.ts'))
  const { shard } = startOdd(
    undefined,
    () => ({ ...start, state, version: '0.0.0-older' }),
    program,
  )
  await assert.rejects(shard.ready, netimageError('in-use', /netimage was updated to/))
  assert.deepEqual(readdirSync(state), [])
})

suite('a process that ends again and again', () => {
  const pauses = [0, 500, 1000, 2000, 4000, 8000, 16_000, 60_000, 60_000]
  let time = 0

  async function startEnding() {
    mock.timers.enable({ apis: ['setTimeout'] })
    const started = startOdd(() => time)
    await started.shard.ready
    return {
      ...started,
      async ends(): Promise<void> {
        const before = started.ends.length
        started.order('end')
        await waitUntil('it has ended', () => started.ends.length > before)
      },
      /** Lets the pause pass, before whose end no process may start. */
      async startsAfter(pauseMs: number): Promise<void> {
        const { starts, readies, ends } = started
        if (pauseMs > 0) {
          mock.timers.tick(pauseMs - 1)
          assert.equal(starts(), ends.length)
          mock.timers.tick(1)
        }
        assert.equal(starts(), ends.length + 1)
        await waitUntil('another one is ready', () => readies() === starts())
      },
      async [Symbol.asyncDispose]() {
        mock.timers.reset()
        await started.shard.close()
      },
    }
  }

  test('is started after longer and longer pauses, at last each minute until it serves for long', async () => {
    await using ending = await startEnding()
    const { shard, failing } = ending
    for (const pauseMs of pauses) {
      assert.equal(shard.isFailing(), failing.length > 0)
      await ending.ends()
      await ending.startsAfter(pauseMs)
    }
    assert.deepEqual(failing, ['its status is 7', 'its status is 7'])
    assert.equal(shard.isFailing(), true)
    time += 10_000
    assert.equal(shard.isFailing(), false)
    await ending.ends()
    assert.equal(shard.isFailing(), false)
    await ending.startsAfter(0)
  })

  test('can be closed during the pause', async () => {
    await using ending = await startEnding()
    await ending.ends()
    await ending.startsAfter(0)
    await ending.ends()
    await waitFor('it is closed', ending.shard.close())
    mock.timers.tick(500)
    assert.equal(ending.starts(), 2)
  })
})
