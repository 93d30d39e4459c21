// Images for machines that are updated.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import {
  buildDemoSystem,
  type DemoSystemName,
  type DemoSystemOptions,
} from '../../../demo/system/build.ts'
import type { BuildRequest } from '../../../src/index.ts'
import { cacheDirectory } from './cache.ts'
import { buildDemoImage, rootDevice, type DemoImage } from './demo-image.ts'
import type { Firmware } from './firmware.ts'

const kinds = {
  /** What a machine boots first. */
  first: {},
  /** The same with another kernel. */
  update: { otherKernel: true },
  /** Its stage 1 has no driver of the network card, and waits one second for a card, not ten. */
  driverless: {
    changes: {
      changeInitrd:
        'chmod -R u+w lib; rm -r lib/modules/*/kernel/drivers/net; sed -i "s/ + 10))/ + 1))/" init',
      retryAfter: '1',
    },
  },
} as const satisfies Record<string, Pick<DemoSystemOptions, 'otherKernel' | 'changes'>>

export type Kind = keyof typeof kinds

/**
 * @param directory for the image
 * @param otherBoot other ways of booting than usual for this system
 */
export async function buildGeneration(
  kind: Kind,
  system: DemoSystemName,
  directory: string,
  { ipxe, stubs, raspberryPi }: Firmware,
  otherBoot: Pick<BuildRequest, 'boot' | 'bootSettings'> = {},
): Promise<DemoImage> {
  const isX86 = system === 'x86_64-linux'
  const { changes, ...rest }: Pick<DemoSystemOptions, 'otherKernel' | 'changes'> = kinds[kind]
  const demo = await buildDemoSystem({
    system,
    cacheDirectory: cacheDirectory('demo-downloads'),
    worldDirectory: cacheDirectory('demo-nix'),
    label: `25.11.${kind}`,
    rootDevice,
    ...rest,
    // As in NixOS, the system has the stub itself: the server makes the boot files of a system that a
    // machine has built only from this system and from the machine's image.
    changes: { ...changes, ...(isX86 && { uefiStub: stubs[system] }) },
  })
  return await buildDemoImage(demo, join(directory, `${kind}-${system}`), {
    boot: isX86 ? ['ipxe', 'uefi'] : ['extlinux', 'raspberry-pi'],
    bootSettings: isX86 ? { ipxe } : { firmware: raspberryPi },
    ...otherBoot,
    // Debian has no device tree of a Pi 5 for these kernels.
    ...(!isX86 && {
      options: { populateFirmwareCommands: 'echo stand-in > bcm2712-rpi-5-b.dtb' },
    }),
  })
}

/** The version of the kernel, as `uname -r` prints it. */
export function kernelOf({ manifest }: DemoImage): string {
  const kernel = manifest.system.entries[0]?.kernel ?? ''
  const [, version] = /-linux-([^/]+)\//.exec(kernel) ?? []
  assert.ok(version !== undefined, kernel)
  return version
}
