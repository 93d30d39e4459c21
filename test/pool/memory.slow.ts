// The memory of a build does not grow with the closure, for different kinds of large closures.

import assert from 'node:assert/strict'
import { lstatSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createZstdCompress } from 'node:zlib'
import { once } from 'node:events'
import { startFakeCache } from '../support/fake-cache.ts'
import { buildWithin, pathOf, pathOfZeros, smallPath } from '../support/large-closure.ts'
import { narOfZeros } from '../support/large-nar.ts'
import { measureNetimage, memoryBound } from '../support/measure.ts'
import { failureOf } from '../support/netimage.ts'
import { cachedPath, cacheFiles, inventPath, inventSystem, makeKey } from '../support/synthetic.ts'
import { makeWorkspace } from '../support/workspace.ts'

test('one path of 1 GB, which is more than twice the limit', async () => {
  const large = await pathOfZeros('large', 2 ** 30)
  await buildWithin([large], {}, ({ image }) => {
    const root = join(image, 'net-image/nixos-net-image-large-x86_64-linux')
    assert.equal(lstatSync(join(root, large.path)).size, 2 ** 30)
  })
})

test('a path with 50000 files', () => {
  const files = Array.from({ length: 50_000 }, (_, index) => [`file-${index}`, { link: 'x' }])
  return buildWithin([pathOf('many-files', { directory: Object.fromEntries(files) })])
})

test('1000 small paths, as a system has', () =>
  buildWithin(Array.from({ length: 1000 }, (_, index) => smallPath(index))))

test('a decompression bomb of 8 GB ends at the promised size', async () => {
  const key = makeKey('bomb-1')
  const bomb = cachedPath(inventPath('bomb'), { file: 'small\n' }, { keys: [key] })
  const system = inventSystem('bomb', [bomb.path], [key])
  const files = new Map<string, Buffer | (() => AsyncIterable<Buffer>)>(
    cacheFiles([
      system.toplevel,
      system.kernel,
      { ...bomb, fileHash: undefined, fileSize: undefined },
    ]),
  )
  // The server makes the bytes while it sends them, and never uses the small file.
  files.set(bomb.url, compressed)
  const workspace = makeWorkspace('bomb')
  const cache = await startFakeCache(files)
  try {
    const run = await measureNetimage(
      [
        ...['build', system.toplevel.path, '--from', cache.url, '-o', workspace.image, '--json'],
        ...['--pool', workspace.pool, '--trusted-public-keys', key.publicKey],
      ],
      { cwd: workspace.directory },
    )
    assert.equal(failureOf(run).code, 'size-mismatch')
    assert.ok(run.peakBytes < memoryBound, `it held ${run.peakBytes} bytes`)
    assert.deepEqual([...workspace.outputs(), ...workspace.leftovers()], [])
  } finally {
    await cache.close()
    workspace.remove()
  }

  async function* compressed(): AsyncGenerator<Buffer> {
    const compressor = createZstdCompress()
    const feed = async () => {
      for (const part of narOfZeros(2 ** 33)) {
        if (compressor.destroyed) return
        if (!compressor.write(part)) await once(compressor, 'drain')
      }
      compressor.end()
    }
    const fed = feed().catch(() => undefined)
    try {
      for await (const part of compressor) if (Buffer.isBuffer(part)) yield part
    } finally {
      compressor.destroy()
      await Promise.race([fed, Promise.resolve()])
    }
  }
})
