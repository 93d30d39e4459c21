// Loaders that need much time with our DHCP server, and Raspberry Pis.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import type { DemoImage } from './support/demo-image.ts'
import { arm64Uefi, x86Uefi } from './support/machines.ts'
import { openNetwork } from './support/network.ts'
import { bootByOwnDhcp, startRouter, type LoaderWay } from './support/own-dhcp-loaders.ts'
import { startOwnDhcp, startTftp } from './support/own-dhcp.ts'
import { modelNames } from './support/pi/models.ts'
import { assertStartsSystem, buildPiImage, powerOnPi } from './support/raspberry-pi.ts'

/** The other ways are in serve.slow.ts, which boots whole machines. */
const ways: readonly LoaderWay[] = [
  {
    name: 'ovmf-http-proxy',
    machine: (firmware) => x86Uefi(firmware, 'http'),
    mode: 'proxy',
    http: true,
    loader: { file: 'bootx64.efi', from: 'snponly.efi' },
  },
  {
    name: 'aarch64-edk2-http-proxy',
    machine: (firmware) => arm64Uefi(firmware, 'http'),
    mode: 'proxy',
    http: true,
    loader: { file: 'ipxe-arm64.efi', from: 'ipxe-arm64.efi' },
  },
]

suite('loaders that our DHCP server answers', { concurrency: 2 }, () => {
  for (const way of ways) test(way.name, () => bootByOwnDhcp(way))
})

suite('Raspberry Pis that our DHCP server answers', { concurrency: 2 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-pi-dhcp-'))
  let image: DemoImage

  before(async () => {
    image = await buildPiImage(join(directory, 'image'))
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  const answered = [...modelNames.map((name) => [name, 'full'] as const), ['pi4', 'proxy'] as const]
  for (const [name, mode] of answered) {
    test(`${name}, ${mode}`, async () => {
      await using network = await openNetwork(`own-dhcp-${name}-${mode}`)
      if (mode === 'proxy') await startRouter(network)
      await startOwnDhcp(network, { mode, files: ['config.txt'] })
      await startTftp(network, join(image.image, 'net-image', 'boot'))
      assertStartsSystem(name, await powerOnPi(network, name), image)
    })
  }
})
