import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { suite, test } from 'node:test'
import { listenError } from '../../src/protocols/listen.ts'

/** The kernel's error if the port is in use. */
async function inUse(): Promise<unknown> {
  const first = createServer().listen(0, '127.0.0.1')
  await once(first, 'listening')
  const address = first.address()
  assert.ok(address && typeof address === 'object')
  const second = createServer().listen(address.port, '127.0.0.1')
  const [error]: unknown[] = await once(second, 'error')
  first.close()
  return error
}

suite('a port that another program has', () => {
  const address = '127.0.0.1'
  test('has a hint that names the program that usually has it', async () => {
    const { details, hint } = listenError('x', { address, port: 111 }, await inUse())
    assert.deepEqual(details, { field: 'x', actual: '127.0.0.1:111' })
    assert.match(hint ?? '', /rpcbind.*--no-port-mapper/)
  })

  test('has a hint to choose another port, if no usual program is known', async () => {
    const { hint } = listenError('x', { address, port: 1234 }, await inUse())
    assert.match(hint ?? '', /choose another address or port/)
  })
})
