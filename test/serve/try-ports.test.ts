// The TCP ports at which machines must accept connections.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { createTryPorts } from '../../src/serve/try-ports.ts'
import { waitUntil } from '../support/waiting.ts'

async function listen(context: TestContext): Promise<number> {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  context.after(() => server.close())
  const address: AddressInfo | string | null = server.address()
  return address !== null && typeof address === 'object' ? address.port : assert.fail()
}

test('a machine answers if it accepts connections at all of its ports', async (context) => {
  const [first, second, gone] = [await listen(context), await listen(context), 1]
  const answered: string[] = []
  const addresses = new Map([
    ['up', '127.0.0.1'],
    ['half', '127.0.0.1'],
  ])
  const ports = createTryPorts({
    addressOf: (machine) => addresses.get(machine),
    onAnswers: (machine, attempt) => answered.push(`${machine} ${attempt}`),
  })
  ports.begin('half', { attempt: 1, ports: [first, gone] })
  ports.begin('unknown', { attempt: 1, ports: [first] })
  ports.begin('up', { attempt: 7, ports: [first, second] })
  // It is tried already.
  ports.begin('up', { attempt: 8, ports: [first] })
  await waitUntil('the machine answers', () => answered.length > 0)
  await ports.close()
  assert.deepEqual(answered, ['up 7'])
  ports.begin('up', { attempt: 9, ports: [first] })
  assert.deepEqual(answered, ['up 7'])
})
