// Clients that are gone before they get a small file, which is sent from memory.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { realpathSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { ServeEvent } from '../../../src/protocols/event.ts'
import { startHttpServer } from '../../../src/protocols/http/server.ts'
import { dropUnused } from '../../../src/protocols/shared-files.ts'
import { openBelow } from '../../roots/support/open-below.ts'
import { temporaryDirectory } from '../../support/temporary.ts'
import { waitUntil } from '../../support/waiting.ts'

async function ask(port: number, file: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' })
  await once(socket, 'connect')
  socket.write(`GET /${file} HTTP/1.1\r\nHost: x\r\n\r\n`)
  return socket
}

test('a client that is gone keeps no file open, and its transfer ends', async (context) => {
  const image = realpathSync(temporaryDirectory())
  const files = Array.from({ length: 20 }, (_, number) => `file${number}`)
  for (const file of files) writeFileSync(join(image, file), 'hello world')
  // Files that were written a moment ago are not kept in memory.
  context.mock.timers.enable({ apis: ['Date'], now: Date.now() + 60_000 })
  const steps: string[] = []
  let client: Socket | undefined
  const { port, close } = await startHttpServer({
    ...{ address: '127.0.0.1', port: 0 },
    async treesOf() {
      client?.resetAndDestroy()
      // The server's end of the connection is told in one of the next turns.
      for (let turn = 0; turn < 20; turn++) await setImmediate()
      return { image }
    },
    report: (event: ServeEvent) => event.kind === 'http' && steps.push(event.step),
    onError: assert.ifError,
  })
  for (const file of [...files, ...files]) {
    const before = steps.length
    client = await ask(port, file)
    await waitUntil('its transfer has begun', () => steps.length > before)
  }
  await close()
  dropUnused()
  // A thread closes them.
  await waitUntil('no file is open', () => openBelow(image).length === 0)
  const count = (step: string) => steps.filter((each) => each === step).length
  assert.deepEqual([count('begin'), count('fail')], [40, 40])
})
