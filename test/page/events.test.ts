// The server-sent events, with a browser that reads them slowly or not at all.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'
import { suite, test, type TestContext } from 'node:test'
import { createEventClients, type EventSettings } from '../../src/page/events.ts'
import { waitUntil } from '../support/waiting.ts'

const changes = (...machines: string[]) => ({
  ...{ machines: new Set(machines), groups: new Set<string>(), others: false },
})

/** A browser that reads nothing until it is told to. */
async function watched(context: TestContext, settings: Partial<EventSettings> = {}) {
  const events = createEventClients({ onWatched: () => {}, ...settings })
  const answered = Promise.withResolvers<ServerResponse>()
  const server = createServer((_, response) => {
    events.add(response)
    answered.resolve(response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const bound = server.address()
  assert.ok(typeof bound === 'object' && bound)
  const socket: Socket = connect(bound.port, '127.0.0.1')
  context.after(() => {
    events.close()
    socket.destroy()
    server.close()
  })
  socket.pause()
  socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
  const response = await answered.promise
  let said = ''
  return {
    ...{ events, response, socket, said: () => said },
    read: () => void socket.on('data', (data: Buffer) => (said += data.toString())).resume(),
  }
}

suite('events', () => {
  test('of a browser that does not read become one, and take no more memory', async (context) => {
    const { events, response, read, said } = await watched(context)
    let sent = 0
    while (!response.writableNeedDrain) events.tell(changes(`first-${sent++}`))
    const held = response.writableLength
    for (let count = 0; count < 100_000; count++) events.tell(changes(`later-${count % 150}`))
    events.tell({ ...changes(), groups: new Set(['lab']), log: 7 })
    assert.equal(response.writableLength, held)
    read()
    await waitUntil('it has the last event', () => said().includes('"log":7'))
    const told = said().match(/^data: .*later-.*$/gm) ?? []
    assert.equal(told.length, 1)
    assert.equal(told[0]?.match(/later-/g)?.length, 150)
    assert.match(told[0] ?? '', /"groups":\["lab"\],"others":false,"log":7/)
  })

  test('name all machines at once if these are very many', async (context) => {
    const { events, read, said } = await watched(context)
    read()
    events.tell(changes(...Array.from({ length: 1000 }, (_, place) => `machine-${place}`)))
    await waitUntil('it is told', () => said().includes('"machines":"all"'))
    assert.doesNotMatch(said(), /machine-/)
  })

  test('show that the server is there, also if nothing happens', async (context) => {
    const { read, said } = await watched(context, { aliveMs: 1 })
    read()
    await waitUntil('it is told twice', () => /still here[^]*still here/.test(said()))
  })

  test('are made only while somebody listens', async (context) => {
    const told: boolean[] = []
    const { events, socket } = await watched(context, { onWatched: (is) => void told.push(is) })
    assert.deepEqual([told, events.size], [[true], 1])
    socket.destroy()
    await waitUntil('the server has noticed', () => events.size === 0)
    assert.deepEqual(told, [true, false])
  })
})
