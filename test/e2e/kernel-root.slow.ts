// A root from the NFS server of the kernel, with netimage's configuration. boot.test.ts has
// nfs-ganesha with version 3, and two-machines.slow.ts with version 4.2. server-paths.slow.ts reads
// files from the server of the kernel by version 3.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { dnsmasqConfiguration } from './support/configuration.ts'
import { startDnsmasq } from './support/daemons.ts'
import { buildBootableSystem, buildDemoImage } from './support/demo-image.ts'
import { startKernelNfsServer } from './support/kernel-nfs-server.ts'
import { powerOn, userModeLinux } from './support/machines.ts'
import { openNetwork } from './support/network.ts'
import { configure } from './support/servers.ts'

const [address, path] = ['10.66.0.2', '/srv/alpha']
const device = `${address}:${path}`

test('a machine boots from the NFS server of the kernel over NFSv4.2, and the owners of its files are numbers', async () => {
  await using cleanup = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'netimage-kernel-root-'))
  cleanup.defer(() => rmSync(directory, { recursive: true, force: true }))
  const network = cleanup.use(await openNetwork('kernel-root'))
  const demo = await buildBootableSystem('x86_64-linux', {
    rootDevice: device,
    rootOptions: 'vers=4.2,proto=tcp',
  })
  const { image, manifest, rootTree } = await buildDemoImage(demo, join(directory, 'image'), {
    boot: [],
    options: { nfsRoot: `${device},v4.2` },
  })
  await startDnsmasq(network, dnsmasqConfiguration(network))
  const exports = await configure(network, 'nfs-exports', image)
  await startKernelNfsServer(network, { address: `${address}/24`, rootTree, path, exports })

  const [entry] = manifest.system.entries
  assert.ok(entry && demo.uml)
  const kernelLine = `init=${entry.init} loglevel=4 netimage.onfail=poweroff:1`
  const machine = await powerOn(network, {
    name: 'machine',
    mac: '52:54:00:00:00:01',
    machine: userModeLinux({ ...demo.uml, kernelLine }),
  })
  await machine.waitFor(/netimage-demo: up/)
  const said = machine.lines().map(({ text }) => text)
  assert.ok(said.includes('netimage-demo: registered'), said.join('\n'))
  const mounted = said.find((line) => line.startsWith('netimage-demo: mount ')) ?? ''
  assert.match(mounted, new RegExp(`mount ${device} / nfs4? rw,.*vers=4.2[, ]`))
  // Owners must be numbers, because server and machine have different names for them.
  await machine.waitFor(/# ?$/)
  machine.type('touch /etc/x; chown 33:33 /etc/x; stat -c "%n is of %u:%g" /nix/store /etc/x\r')
  await machine.waitFor(/^\/nix\/store is of 0:30000$/)
  await machine.waitFor(/^\/etc\/x is of 33:33$/)
  await machine.powerOff()
})
