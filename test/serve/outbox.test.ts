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
})
