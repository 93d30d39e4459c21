// Other ways of booting by `netimage serve`, also beside another DHCP server.

import { suite, test, type TestContext } from 'node:test'
import { bootBy, fastWays, otherWays, type BootWay } from './support/boot-ways.ts'

const likeOthers = new Set([
  // update.slow.ts boots by iPXE and UEFI from our server; boot.slow.ts and the tests of DHCP have these loaders.
  ...['bios-ipxe-tftp', 'bios-ipxe.pxe', 'ovmf-ipxe.efi'],
  ...['bios-ipxe-http', 'bios-lpxelinux.0', 'bios-undionly.kpxe', 'ovmf-snponly.efi'],
  ...['aarch64-edk2-pxe-uki', 'ovmf-http-uki'],
])
/** U-Boot takes the first offer, and does not support proxyDHCP. UEFI is in boot.slow.ts. */
const proxied = fastWays
/**
 * Our server answers DHCP itself, and always serves HTTP for iPXE. Of loaders that the server
 * offers in the same way, one is here. The tests of our DHCP server have the others.
 */
const wanted = [...fastWays, ...otherWays].filter(
  ({ name, servers }) => servers?.dhcp === undefined && !likeOthers.has(name),
)

suite('from power-on to a kernel, with our own server', { concurrency: 2 }, () => {
  for (const way of proxied) {
    test(`${way.name}, beside another DHCP server`, (context) => load(way, context, 'proxy'))
  }
  for (const way of wanted) test(way.name, (context) => load(way, context, 'full'))
})

/** update.slow.ts and update-boards.slow.ts show the rest of a boot. */
async function load(way: BootWay, context: TestContext, mode: 'full' | 'proxy'): Promise<void> {
  await bootBy({ ...way, until: way.boot.includes('uefi') ? 'start' : 'kernel' }, context, mode)
}
