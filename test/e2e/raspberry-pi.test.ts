// Raspberry Pis that fetch their boot files from an image's boot tree. More tests are in
// raspberry-pi.slow.ts.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import type { DemoImage } from './support/demo-image.ts'
import { assertStartsSystem, bootPi, buildPiImage } from './support/raspberry-pi.ts'

suite('Raspberry Pi', { concurrency: 2 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-pi-test-'))
  let image: DemoImage

  before(async () => {
    image = await buildPiImage(join(directory, 'image'))
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  test('a pi4 gets its kernel, initrd, kernel line and device tree', async () => {
    const report = await bootPi('pi4', image.image)
    assert.equal(report.prefix, '')
    assertStartsSystem('pi4', report, image)
  })
})
