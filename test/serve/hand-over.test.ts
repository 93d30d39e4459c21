import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { createHandOver } from '../../src/serve/front/hand-over.ts'

function start(count: number) {
  const sent: number[] = []
  const sockets: Socket[] = []
  const handOver = createHandOver((_, socket) => void sent.push(sockets.indexOf(socket)))
  const come = (name = `machine-${sockets.length}`) => {
    const socket = new Socket()
    sockets.push(socket)
    const client = { address: '127.0.0.2', name }
    handOver.give(name, { kind: 'connection', protocol: 'nfs', client }, socket)
    return socket
  }
  for (let index = 0; index < count; index++) come()
  /** The numbers of the connections that are closed on this side. */
  const closed = () => sockets.flatMap(({ destroyed }, index) => (destroyed ? [index] : []))
  return { handOver, sent, sockets, come, closed }
}

suite('connections for a process', () => {
  test('wait until it can take them, and go to it one by one', () => {
    const { handOver, sent, come, closed } = start(3)
    assert.deepEqual(sent, [])
    handOver.begin()
    assert.deepEqual([sent, closed()], [[0], []])
    handOver.taken()
    assert.deepEqual([sent, closed()], [[0, 1], [0]])
    handOver.taken()
    handOver.taken()
    assert.deepEqual(
      [sent, closed()],
      [
        [0, 1, 2],
        [0, 1, 2],
      ],
    )
    come()
    assert.deepEqual(sent, [0, 1, 2, 3])
  })

  test('go to the next process if it ends, except for the one that is under way', () => {
    const { handOver, sent, come, closed } = start(2)
    handOver.begin()
    handOver.ended()
    come()
    assert.deepEqual([sent, closed()], [[0], [0]])
    handOver.begin()
    handOver.taken()
    assert.deepEqual(
      [sent, closed()],
      [
        [0, 1, 2],
        [0, 1],
      ],
    )
  })

  test('are not sent if they close while they wait', async () => {
    const { handOver, sent, sockets } = start(4)
    sockets[1]?.destroy()
    await once(sockets[1] ?? assert.fail(), 'close')
    sockets[2]?.destroy()
    handOver.begin()
    handOver.taken()
    assert.deepEqual(sent, [0, 3])
  })

  test('are closed if too many wait, and one that closes makes room', async () => {
    const { come, sockets, closed } = start(1025)
    assert.deepEqual(closed(), [1024])
    sockets[7]?.destroy()
    await once(sockets[7] ?? assert.fail(), 'close')
    assert.equal(come().destroyed, false)
    assert.equal(come().destroyed, true)
  })

  test('of one machine do not take the places of others, and those that are gone count no more', async () => {
    const { handOver, come, sockets, closed, sent } = start(0)
    for (let count = 0; count < 33; count++) come('scanner')
    assert.deepEqual(closed(), [32])
    assert.equal(come('machine').destroyed, false)
    sockets[3]?.destroy()
    await once(sockets[3] ?? assert.fail(), 'close')
    assert.equal(come('scanner').destroyed, false)
    assert.equal(come('scanner').destroyed, true)
    handOver.begin()
    handOver.taken()
    assert.deepEqual(sent, [0, 1])
    await once(sockets[0] ?? assert.fail(), 'close')
    assert.equal(come('scanner').destroyed, false)
  })

  test('are given up if a ping that was sent later is answered first', () => {
    const { handOver, sent, come, closed } = start(0)
    handOver.begin()
    handOver.pinged()
    come()
    come()
    // This ping was sent before the connection.
    handOver.answered()
    assert.deepEqual([sent, closed()], [[0], []])
    handOver.pinged()
    handOver.answered()
    assert.deepEqual([sent, closed()], [[0, 1], [0]])
    handOver.taken()
    handOver.answered()
    assert.deepEqual(closed(), [0, 1])
  })

  test('of the next process are not given up by a ping to the process before', () => {
    const { handOver, sent, closed } = start(2)
    handOver.begin()
    handOver.pinged()
    handOver.ended()
    handOver.begin()
    handOver.answered()
    assert.deepEqual([sent, closed()], [[0, 1], [0]])
  })

  test('are closed at the end, also those that come later', () => {
    const { handOver, sent, come, closed } = start(2)
    handOver.begin()
    handOver.close()
    handOver.begin()
    come()
    assert.deepEqual([sent, closed()], [[0], [0, 1, 2]])
  })
})
