import assert from 'node:assert/strict'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { suite, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { NetimageError } from '../../src/errors.ts'
import { startShards } from '../../src/serve/front/shards.ts'
import { ownerOf } from '../../src/serve/shard/owner.ts'
import type { Told } from '../../src/site/life/life.ts'
import { assertError } from '../support/errors.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'
import { childrenOf } from '../support/processes.ts'

const module = pathToFileURL(join(import.meta.dirname, 'support/boastful-shard-program.ts'))
const machines = Array.from({ length: 8 }, (_, index) => `02:00:00:00:00:0${index}`)
const init = { kind: 'root', step: 'init' } as const
const ofShard = (shard: number) => machines.filter((machine) => ownerOf(machine, 2) === shard)

async function startBoastful(isAllowed = (_machine: string) => true) {
  const told: Told[] = []
  const come: string[] = []
  const facts: string[] = []
  const restarts: string[] = []
  let missing = 0
  const errors: NetimageError[] = []
  const givenUp: NetimageError[] = []
  const shards = startShards({
    ...{ module, count: 2, isAllowed, now: () => 0 },
    onGiveUp: (error) => void givenUp.push(error),
    start: {
      ...{ state: '', allowed: 'any', ephemeral: false, layerSize: undefined },
      place: { name: 'lo', address: '127.0.0.1', network: undefined },
      ...{ http: '', defaults: [], handleKey: Buffer.alloc(32) },
      addresses: new Map(machines.map((machine, index) => [`127.0.0.${index + 2}`, machine])),
    },
    learnt: {
      ...{ record: { add: () => {} }, boots: [], addresses: new Map(), processors: new Map() },
      facts: { keep: (_, machine, fact) => void facts.push(`${machine} ${fact}`) },
    },
    see({ machine }, event) {
      if (event.kind === 'server') restarts.push(machine)
      else if (event.kind === 'http') missing++
    },
    onTold: (one) => void told.push(one),
    onCome: (machine) => void come.push(machine),
    onError: (error) => void errors.push(error),
  })
  await waitFor('all shards are ready', shards.ready)
  const haveSaidAll = (count: number) =>
    errors.filter(({ message }) => message.endsWith('has said all')).length === count
  await waitUntil('all shards have said all', () => haveSaidAll(2))
  return {
    ...{
      shards,
      told,
      come,
      facts,
      restarts,
      errors,
      givenUp,
      haveSaidAll,
      missing: () => missing,
    },
    [Symbol.asyncDispose]: () => shards.close(),
  }
}

const missed = {
  kind: 'http',
  step: 'missing',
  file: '/x',
  bytes: 0,
  address: '127.0.0.2',
} as const

suite('a shard that speaks of the machines of another one', () => {
  test('is not believed, except if it tells of a power cut', async () => {
    await using boastful = await startBoastful()
    const { shards, told, come, facts, errors } = boastful
    assert.equal(errors.length, 2)
    const owners = new Map(machines.map((machine) => [machine, ownerOf(machine, 2)]))
    assert.deepEqual(new Set(owners.values()), new Set([0, 1]))
    const bytes = new Map(shards.boots().map((boot) => [boot.machine, boot.bytes]))
    assert.deepEqual(bytes, owners)
    assert.deepEqual(come.toSorted(), machines)
    const expected = machines.map((machine) => `${machine} ${owners.get(machine)}`)
    assert.deepEqual(facts.toSorted(), expected)

    const isCut = ({ kind, why }: Told) => kind !== 'bad' && why !== undefined
    const { true: cuts = [], false: others = [] } = Object.groupBy(told, (one) => `${isCut(one)}`)
    assert.equal(others.length, 3 * machines.length)
    for (const { machine, generation } of others) assert.equal(generation, owners.get(machine))
    for (const shard of [0, 1]) {
      const ofOne = cuts.filter(({ generation }) => generation === shard)
      const both = machines.flatMap((one) => [`${one} attempt void`, `${one} taken back`])
      assert.deepEqual(
        ofOne.map(({ machine, kind }) => `${machine} ${kind}`),
        both,
      )
    }
  })

  test('and does not answer keeps no request waiting for ever', async (context) => {
    await using boastful = await startBoastful()
    context.mock.timers.enable({ apis: ['setTimeout'] })
    const machine = machines[0] ?? assert.fail()
    const requester = { address: '127.0.0.2', protocol: 'tftp', file: 'kernel' } as const
    const refused = boastful.shards.treesOf(requester, machine).then(
      () => assert.fail('there are no files'),
      (error: unknown) => error,
    )
    // If the process ends, the next one is asked, so there are two questions.
    for (let question = 0; question < 2; question++) {
      context.mock.timers.tick(60_000)
      await nextTurn()
    }
    context.mock.timers.reset()
    assertError(await refused, 'in-use', { field: machine })
  })

  test('and tells no images is asked once for all that wait, who learn that nobody knows', async (context) => {
    await using boastful = await startBoastful()
    const { shards, errors } = boastful
    const said = (text: string) => errors.filter(({ message }) => message === text).length
    context.mock.timers.enable({ apis: ['setTimeout'] })
    shards.report(init, machines[0] ?? assert.fail(), false)
    await waitUntil('both are asked', () => said('is asked for its images') === 2)
    // Both questions were sent together; the answers to them need no more questions.
    while (said('all images: undefined') < 2) {
      context.mock.timers.tick(60_000)
      await nextTurn()
    }
    context.mock.timers.reset()
    for (const shard of [0, 1]) {
      const client = { address: '127.0.0.2', name: ofShard(shard)[0] ?? assert.fail() }
      shards.read(Buffer.alloc(0), { host: client.address, port: 1 }, client)
    }
    await waitUntil('both have heard all', () => said('has heard all') === 2)
    assert.equal(said('is asked for its images'), 2)
  })

  test('is started again, and the boots of its own machines are told', async () => {
    await using boastful = await startBoastful()
    const { shards, restarts, errors, haveSaidAll } = boastful
    shards.report(init, ofShard(0)[0] ?? assert.fail(), true)
    await waitUntil('it has started again', () => haveSaidAll(3))
    assert.deepEqual(restarts, ofShard(0))
    const hint = errors.find(({ message }) => message.includes('started again (1 of 2)'))?.hint
    const count = ofShard(0).length
    assert.match(
      hint ?? '',
      new RegExp(` ${count} of its machines were booting: see netimage boots\\.$`),
    )
  })
})

test('a shard that ends again and again does not end the others, but all such shards end the server', async (context) => {
  await using boastful = await startBoastful()
  const { shards, errors, givenUp, haveSaidAll } = boastful
  const count = (text: string) => errors.filter(({ message }) => message.includes(text)).length
  context.mock.timers.enable({ apis: ['setTimeout'] })
  let starts = 2
  async function fails(shard: number, isFailing: () => boolean): Promise<void> {
    while (!isFailing()) {
      shards.report(init, ofShard(shard)[0] ?? assert.fail(), true)
      await waitUntil('it has ended', () => count('is started again') === starts - 1)
      starts++
      context.mock.timers.tick(60_000)
      await waitUntil('it has started again', () => haveSaidAll(starts))
    }
  }
  await fails(0, () => count('ends again and again (1 of 2): its status is 7') > 0)
  assert.equal(givenUp.length, 0)
  await fails(1, () => givenUp.length > 0)
  assert.match(givenUp[0]?.message ?? '', /^all processes .* again and again: its status is 7$/)
  assert.equal(count('ends again and again (2 of 2)'), 0)
  context.mock.timers.reset()
})

suite('requests that all shards tell of', () => {
  for (const [isServed, shown] of [
    [true, 800],
    [false, 500],
  ] as const) {
    const who = isServed ? 'machines that are served' : 'others'
    test(`by ${who} are shown ${shown} times at once`, async () => {
      await using boastful = await startBoastful(() => isServed)
      const { shards, errors, missing } = boastful
      for (const shard of [0, 1]) shards.report(missed, ofShard(shard)[0] ?? assert.fail(), true)
      const told = () => errors.filter(({ message }) => message === 'has told all').length
      await waitUntil('both have told all', () => told() === 2)
      assert.equal(missing(), shown)
    })
  }
})

test('messages of hosts that are not served leave room for those of machines', async () => {
  await using boastful = await startBoastful((machine) => machines.includes(machine))
  const { shards, errors } = boastful
  const pids = childrenOf(process.pid)
  assert.equal(pids.length, 2)
  for (const pid of pids) process.kill(pid, 'SIGSTOP')
  const address = '127.0.0.2'
  // More than the system takes for a process that does not read.
  const bytes = Buffer.alloc(8192)
  for (let number = 0; number < 2500; number++) {
    shards.read(bytes, { host: address, port: 1 }, { address, name: `invented ${number}` })
  }
  const calls = [0, 1].map((shard) =>
    shards.call(bytes, { address, name: ofShard(shard)[0] ?? assert.fail() }),
  )
  for (const shard of [0, 1]) {
    const client = { address, name: ofShard(shard)[0] ?? assert.fail() }
    shards.read(Buffer.alloc(0), { host: address, port: 1 }, client)
  }
  for (const pid of pids) process.kill(pid, 'SIGCONT')
  const said = (text: string) => errors.filter(({ message }) => message === text).length
  await waitUntil('both are asked', () => said('is asked for its call') === 2)
  await waitUntil('both have heard all', () => said('has heard all') === 2)
  await shards.close()
  assert.deepEqual(await Promise.all(calls), [undefined, undefined])
})

test('events of machines that a process cannot take are told as lost, once', async () => {
  await using boastful = await startBoastful((machine) => machines.includes(machine))
  const { shards, errors } = boastful
  const pids = childrenOf(process.pid)
  assert.equal(pids.length, 2)
  for (const pid of pids) process.kill(pid, 'SIGSTOP')
  const report = (machine: string, times: number) => {
    for (let count = 0; count < times; count++) shards.report(init, machine, false)
  }
  report('invented', 100)
  for (const shard of [0, 1]) report(ofShard(shard)[0] ?? assert.fail(), 70)
  const closed = shards.close()
  report(ofShard(0)[0] ?? assert.fail(), 1)
  for (const pid of pids) process.kill(pid, 'SIGCONT')
  await closed
  const lost = errors.filter(({ message }) => message.includes('missing in the record'))
  assert.deepEqual(
    lost.map(({ message }) => message),
    ['12 events of machines are missing in the record of their boots'],
  )
})
