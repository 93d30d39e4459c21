import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { createOutbox } from '../../src/serve/front/outbox.ts'
import type { ToShard } from '../../src/serve/shard/messages.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'

const program = join(import.meta.dirname, 'support/odd-shard-program.ts')
const ping: ToShard = { kind: 'ping', id: 1 }

suite('messages that wait for a process', () => {
  test('of one machine leave room for those of others, and all are sent', async (context) => {
    const outbox = createOutbox()
    const send = (machine: string, times: number) =>
      Array.from({ length: times }, () => outbox.send(machine, ping)).filter(Boolean).length
    assert.equal(send('greedy', 2000), 64)
    assert.equal(send('modest', 3), 3)
    const child = fork(program)
    context.after(() => child.kill('SIGKILL'))
    let pongs = 0
    child.on('message', () => void pongs++)
    outbox.begin(child)
    await waitUntil('all are answered', () => pongs === 67)
    await waitUntil('the machine has room again', () => outbox.send('greedy', ping))
    outbox.ended()
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await waitFor('the process ends', ended)
    outbox.close()
    assert.equal(send('modest', 1), 0)
  })

  test('that are read requests leave room for all others', () => {
    const outbox = createOutbox()
    const client = { address: '127.0.0.2', name: 'a machine' }
    const request: ToShard = {
      ...{ kind: 'read-request', bytes: Buffer.alloc(0), client },
      from: { host: client.address, port: 1 },
    }
    let taken = 0
    for (let machine = 0; machine < 64; machine++)
      for (let count = 0; count < 64; count++) if (outbox.send(`${machine}`, request)) taken++
    assert.equal(taken, 512)
    for (let count = 0; count < 64; count++) assert.equal(outbox.send('0', ping), true)
    assert.equal(outbox.send('another', ping), true)
    outbox.close()
  })
})
