import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { suite, test } from 'node:test'
import { createDoor } from '../../src/serve/front/door.ts'
import { waitUntil } from '../support/waiting.ts'

async function openDoor(nameSoon: (address: string) => Promise<string | undefined>) {
  const cleanup = new AsyncDisposableStack()
  const entered: { name: string; address: string }[] = []
  const door = createDoor({
    identities: { nameSoon },
    hears: (address) => address !== '127.0.0.9',
    onNamed: (client, socket) => {
      entered.push(client)
      cleanup.defer(() => void socket.destroy())
    },
  })
  const server = createServer({ pauseOnConnect: true }, door.accept).listen(0, '127.0.0.1')
  cleanup.defer(() => void server.close())
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : assert.fail()
  return {
    ...{ entered, server, door },
    async come(localAddress: string): Promise<Socket> {
      const socket = connect({ port, host: '127.0.0.1', localAddress })
      socket.on('error', () => {})
      socket.resume()
      cleanup.defer(() => void socket.destroy())
      await once(socket, 'connect')
      return socket
    },
    [Symbol.asyncDispose]: () => cleanup.disposeAsync(),
  }
}

suite('a new connection', () => {
  test('waits until the name of its machine is known', async () => {
    let asked = 0
    await using door = await openDoor(() => Promise.resolve(++asked < 3 ? undefined : 'pi'))
    await door.come('127.0.0.2')
    await waitUntil('it is let in', () => door.entered.length === 1)
    assert.deepEqual(door.entered, [{ address: '127.0.0.2', name: 'pi' }])
    assert.equal(asked, 3)
  })

  test('of one address too many is closed while others wait', async () => {
    const known = Promise.withResolvers<string>()
    await using door = await openDoor(() => known.promise)
    const sockets: Socket[] = []
    for (let count = 0; count < 33; count++) sockets.push(await door.come('127.0.0.2'))
    const [other] = [await door.come('127.0.0.3')]
    await waitUntil('one is closed', () => sockets.some(({ destroyed }) => destroyed))
    known.resolve('pi')
    await waitUntil('the others are let in', () => door.entered.length === 33)
    assert.equal(sockets.filter(({ destroyed }) => destroyed).length, 1)
    assert.equal(other.destroyed, false)
  })

  test('of another network is closed', async () => {
    await using door = await openDoor(() => Promise.resolve('pi'))
    const socket = await door.come('127.0.0.9')
    if (!socket.destroyed) await once(socket, 'close')
    assert.deepEqual(door.entered, [])
  })

  test('that waits is closed with the door, and so are those that come later', async () => {
    const known = Promise.withResolvers<string>()
    await using open = await openDoor(() => known.promise)
    const waits = await open.come('127.0.0.2')
    const accepted = () =>
      new Promise<number>((resolve) => open.server.getConnections((_, count) => resolve(count)))
    await waitUntil('it waits', async () => (await accepted()) === 1)
    open.door.close()
    await waitUntil('it is closed', () => waits.destroyed)
    const later = await open.come('127.0.0.2')
    await waitUntil('the later one is closed', () => later.destroyed)
    known.resolve('pi')
    const closed = once(open.server, 'close')
    open.server.close()
    await closed
    assert.deepEqual(open.entered, [])
  })
})
