// All other ways of booting by `netimage serve`, also beside another DHCP server. Also the data
// that a machine keeps between boots.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { bootBy, fastWays, otherWays, type BootWay } from './support/boot-ways.ts'
import { buildBootableSystem, buildDemoImage } from './support/demo-image.ts'
import { fetchFirmware } from './support/firmware.ts'
import { powerOn, userModeLinux } from './support/machines.ts'
import { openNetwork } from './support/network.ts'
import { startOwnServer } from './support/own-server.ts'

const likeOthers = new Set([
  // update.slow.ts boots by iPXE and UEFI from our server; boot.slow.ts and the tests of DHCP have these loaders.
  ...['bios-ipxe-tftp', 'bios-ipxe.pxe', 'ovmf-ipxe.efi'],
  ...['bios-ipxe-http', 'bios-lpxelinux.0', 'bios-undionly.kpxe', 'ovmf-snponly.efi'],
  'aarch64-edk2-ipxe-arm64.efi',
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

test('a machine keeps what it wrote after its server was killed', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-serve-'))
  await using cleanup = new AsyncDisposableStack()
  cleanup.defer(() => rmSync(directory, { recursive: true, force: true }))
  const { ipxe } = await fetchFirmware()
  const { image, manifest, demo } = await buildDemoImage(
    await buildBootableSystem('x86_64-linux'),
    join(directory, 'image'),
    { boot: ['ipxe'], bootSettings: { ipxe } },
  )
  const [entry] = manifest.system.entries
  assert.ok(entry && demo.uml)
  const kernelLine = `init=${entry.init} loglevel=4 netimage.onfail=poweroff:1`
  const machine = userModeLinux({ ...demo.uml, kernelLine })
  const network = cleanup.use(await openNetwork('serve-keeps'))
  const server = await startOwnServer(network, [image], 'full')

  async function isRegisteredAnew(name: string): Promise<boolean> {
    const powered = await powerOn(network, { name, mac: '52:54:00:00:00:01', machine })
    await powered.waitFor(/netimage-demo: up/)
    await powered.powerOff()
    return powered.lines().some(({ text }) => text.includes('netimage-demo: registered'))
  }

  assert.equal(await isRegisteredAnew('first'), true)
  // Killed, not stopped: data that the server has called stable must be there.
  await server.restart()
  assert.equal(await isRegisteredAnew('second'), false)
})
