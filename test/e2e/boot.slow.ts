// The ways of booting that are not in boot.test.ts, because they take minutes.

import { suite, test } from 'node:test'
import { bootBy, fastOwnWays, otherWays, type BootWay } from './support/boot-ways.ts'

/** Of loaders that are served in the same way, one is here; serve.slow.ts has the others. */
const elsewhere = new Set(['bios-pxelinux.0', 'bios-ipxe.pxe', 'ovmf-ipxe.efi'])

suite('from power-on to a kernel', { concurrency: 2 }, () => {
  // serve.test.ts boots the same images until the system is up. failing-loaders.slow.ts has U-Boot.
  const loading = fastOwnWays
    .filter(({ name }) => !name.startsWith('uboot'))
    .map((way): BootWay => ({ ...way, until: 'kernel' }))
  const others = otherWays.filter(({ name }) => !elsewhere.has(name))
  for (const way of [...loading, ...others]) test(way.name, (context) => bootBy(way, context))
})
