// Memory with closures that take minutes or gigabytes of disk: `npm run` in CI, not at every test.

import assert from 'node:assert/strict'
import { lstatSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { buildWithin, pathOf, pathOfZeros, smallPath } from '../support/large-closure.ts'

test('one path of 4 GB', async () => {
  const large = await pathOfZeros('large', 2 ** 32)
  await buildWithin([large], {}, ({ image }) => {
    const root = join(image, 'net-image/nixos-net-image-large-x86_64-linux')
    assert.equal(lstatSync(join(root, large.path)).size, 2 ** 32)
  })
})

test('a path with 50000 files', () => {
  const files = Array.from({ length: 50_000 }, (_, index) => [`file-${index}`, { link: 'x' }])
  return buildWithin([pathOf('many-files', { directory: Object.fromEntries(files) })])
})

test('20000 small paths, more than any system has', () =>
  buildWithin(Array.from({ length: 20_000 }, (_, index) => smallPath(index))))
