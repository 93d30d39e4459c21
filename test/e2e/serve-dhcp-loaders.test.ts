// Loaders that boot by our DHCP server; slower ones are in serve-dhcp-loaders.slow.ts. U-Boot is in
// serve.test.ts.

import { suite, test } from 'node:test'
import { x86Bios } from './support/machines.ts'
import { bootByOwnDhcp, type LoaderWay } from './support/own-dhcp-loaders.ts'

const ways: readonly LoaderWay[] = [
  { name: 'bios-ipxe', machine: x86Bios, mode: 'full' },
  { name: 'bios-ipxe-proxy', machine: x86Bios, mode: 'proxy' },
]

suite('loaders that our DHCP server answers', { concurrency: 2 }, () => {
  for (const way of ways) test(way.name, () => bootByOwnDhcp(way))
})
