import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { suite, test } from 'node:test'
import type { FromShard } from '../../src/serve/shard/from-shard.ts'
import { version } from '../../src/version.ts'
import { startShard } from '../../src/serve/shard/shard.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'

const address = '127.0.0.1'

async function openShard() {
  await using cleanup = new AsyncDisposableStack()
  const said: FromShard[] = []
  const shard = await startShard(
    {
      ...{
        number: 0,
        count: 1,
        state: temporaryDirectory(),
        allowed: 'any',
        ephemeral: false,
        version,
      },
      ...{ place: { name: 'lo', address, network: undefined }, layerSize: undefined },
      ...{ http: '', defaults: [], handleKey: Buffer.alloc(32), boots: [] },
      ...{ addresses: new Map(), processors: new Map() },
    },
    (message) => void said.push(message),
  )
  cleanup.defer(() => shard.close())
  const client = { address, name: address }
  let accepted = 0
  const front = createServer((socket) => {
    accepted++
    shard.receive({ kind: 'connection', protocol: 'http', client }, socket)
  })
  cleanup.defer(() => void front.close())
  front.listen(0, address)
  await once(front, 'listening')
  const bound = front.address()
  const port = typeof bound === 'object' && bound ? bound.port : assert.fail()
  const open = cleanup.move()
  return {
    ...{ shard, said, accepted: () => accepted },
    get: async (path: string) => await (await fetch(`http://${address}:${port}${path}`)).text(),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

suite('a shard', () => {
  test('asks the front once for all who want the data of the server at the same time', async () => {
    await using opened = await openShard()
    const { shard, said, get } = opened
    const questions = () => said.filter((message) => message.kind === 'question')
    const boot = { started: 0, step: 'kernel', steps: {}, lastSign: 0, bytes: 0 } as const
    const answers = Array.from({ length: 5 }, () => get('/api/machines'))
    await waitUntil('all have come', () => opened.accepted() === 5)
    // An answer that does not come from the front shows that the questions before it were read.
    await waitFor('another answer comes', get('/api/none'))
    const [asked, ...more] = questions()
    assert.deepEqual(more, [])
    const { id } = asked ?? assert.fail()
    shard.receive(
      { kind: 'answer', id, answer: { machines: [{ ...boot, machine: 'pi' }] } },
      undefined,
    )
    for (const answer of await waitFor('all are answered', Promise.all(answers))) {
      assert.match(answer, /"machine":"pi"/)
    }
    const later = get('/api/machines')
    await waitUntil('it asks again', () => questions().length === 2)
    shard.receive(
      { kind: 'answer', id: questions()[1]?.id ?? assert.fail(), answer: { machines: [] } },
      undefined,
    )
    assert.equal(await waitFor('it is answered', later), '[]\n')
  })

  test('reads nothing of the boots of other machines if a client asks for one', async () => {
    await using opened = await openShard()
    const { shard, said, get } = opened
    const [one, other] = ['02:00:00:00:00:01', '02:00:00:00:00:02']
    let reads = 0
    const boot = { started: 0, step: 'kernel', lastSign: 0, bytes: 0 } as const
    const machines = [
      { ...boot, machine: one, steps: {} },
      {
        ...{ ...boot, machine: other },
        get steps() {
          reads++
          return {}
        },
      },
    ]
    const asked = get(`/api/machines/${one}`)
    await waitUntil('it asks', () => said.some(({ kind }) => kind === 'question'))
    const { id } = said.find((message) => message.kind === 'question') ?? assert.fail()
    shard.receive({ kind: 'answer', id, answer: { machines } }, undefined)
    assert.match(await waitFor('it is answered', asked), new RegExp(`"machine":"${one}"`))
    assert.equal(reads, 0)
  })
})
