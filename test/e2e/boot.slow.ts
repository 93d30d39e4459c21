// The ways of booting that are not in boot.test.ts, because they take minutes.

import { suite, test } from 'node:test'
import { bootBy, otherWays } from './support/boot-ways.ts'

/** Of loaders that are served in the same way, one is here; serve.slow.ts has the others. */
const elsewhere = new Set(['bios-ipxe.pxe', 'ovmf-ipxe.efi'])

suite('from power-on to a kernel', { concurrency: 2 }, () => {
  // serve.test.ts boots the unified kernel image until the system is up, and ovmf-snponly.efi shows
  // PXE over UEFI. failing-loaders.slow.ts has U-Boot.
  const others = otherWays.filter(({ name }) => !elsewhere.has(name))
  for (const way of others) test(way.name, (context) => bootBy(way, context))
})
