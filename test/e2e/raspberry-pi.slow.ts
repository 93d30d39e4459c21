// Raspberry Pis with other DHCP servers, and with a folder of their own in the boot tree.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import type { DemoImage } from './support/demo-image.ts'
import { modelNames } from './support/pi/models.ts'
import { assertStartsSystem, boards, bootPi, buildPiImage } from './support/raspberry-pi.ts'

suite('Raspberry Pi', { concurrency: 2 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-pi-test-'))
  let image: DemoImage

  before(async () => {
    image = await buildPiImage(join(directory, 'image'))
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  for (const name of modelNames) {
    for (const dhcp of ['proxy', 'kea'] as const) {
      test(`${name} boots by DHCP from ${dhcp}`, async () => {
        assertStartsSystem(name, await bootPi(name, image.image, dhcp), image)
      })
    }

    test(`${name} prefers the folder of its serial number`, async () => {
      const copy = join(directory, `image-for-${name}`)
      cpSync(image.image, copy, { recursive: true, verbatimSymlinks: true })
      const { serial } = boards[name]
      const bootTree = join(copy, 'net-image/boot')
      mkdirSync(join(bootTree, serial))
      for (const file of readdirSync(bootTree)) {
        // The boot ROM of a Pi 3 fetches this one, and knows no folders.
        if (file !== serial && file !== 'bootcode.bin') {
          renameSync(join(bootTree, file), join(bootTree, serial, file))
        }
      }
      const report = await bootPi(name, copy)
      assert.equal(report.prefix, `${serial}/`)
      assertStartsSystem(name, report, image)
    })
  }
})
