// A client that reads slowly, but all the time, for longer than a connection may be idle.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { copyRange } from '../../../src/protocols/http/body.ts'
import { createKernelRanges } from '../../../src/protocols/http/kernel-ranges.ts'
import { startHttpServer } from '../../../src/protocols/http/server.ts'
import { temporaryDirectory } from '../../support/temporary.ts'
import { buildAddon } from '../support/addon.ts'

const image = temporaryDirectory()
const kernel = randomBytes(4_000_000)
writeFileSync(join(image, 'kernel'), kernel)
const byKernel =
  createKernelRanges(copyRange, buildAddon()) ?? assert.fail('the addon is not loaded')

/** Reads 64 KiB ten times in a second. */
async function readSlowly(port: number): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1' })
  socket.write('GET /kernel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  const pieces: Uint8Array[] = []
  for await (const piece of socket) {
    assert.ok(piece instanceof Uint8Array)
    pieces.push(piece)
    await setTimeout(100)
  }
  return Buffer.concat(pieces)
}

suite('a client that reads slowly gets the whole file', { concurrency: true }, () => {
  for (const [name, sendRange] of Object.entries({
    'as copies': copyRange,
    'by the kernel': byKernel,
  })) {
    test(name, async () => {
      const { port, close } = await startHttpServer({
        ...{ address: '127.0.0.1', port: 0, sendRange },
        treesOf: () => ({ image }),
        report: () => {},
        onError: assert.ifError,
        limits: { connections: 512, connectionsPerAddress: 64, idleSeconds: 2 },
      })
      try {
        const received = await readSlowly(port)
        assert.ok(received.subarray(received.indexOf('\r\n\r\n') + 4).equals(kernel))
      } finally {
        await close()
      }
    })
  }
})
