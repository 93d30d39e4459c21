// Loaders that boot by our DHCP server; slower ones are in serve-dhcp-loaders.slow.ts.

import { suite, test } from 'node:test'
import { arm64Uboot, x86Bios } from './support/machines.ts'
import { bootByOwnDhcp, type LoaderWay } from './support/own-dhcp-loaders.ts'

const ways: readonly LoaderWay[] = [
  { name: 'bios-ipxe', machine: x86Bios, mode: 'full' },
  { name: 'bios-ipxe-proxy', machine: x86Bios, mode: 'proxy' },
  {
    name: 'uboot',
    machine: arm64Uboot,
    mode: 'full',
    asksFor: /pxelinux\.cfg\/01-52-52-52-52-52-52/,
  },
]

suite('loaders that our DHCP server answers', { concurrency: 2 }, () => {
  for (const way of ways) test(way.name, () => bootByOwnDhcp(way))
})
