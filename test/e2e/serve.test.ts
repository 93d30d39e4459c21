// Machines that boot from `netimage serve` alone.

import { suite, test } from 'node:test'
import { bootBy, fastOwnWays } from './support/boot-ways.ts'

suite('from power-on to a kernel, with our own server', { concurrency: 2 }, () => {
  for (const way of fastOwnWays) {
    // update-boards.slow.ts boots U-Boot's way until the system is up, and update.slow.ts UEFI's way.
    const until = way.name.startsWith('uboot') ? 'fetch' : 'kernel'
    test(way.name, (context) => bootBy({ ...way, until }, context, 'full'))
  }
})
