// Machines of one image that mount their roots over NFSv4 at once: stage 1 has to tell the server
// that they are two, or each takes the other's locks away.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { dnsmasqConfiguration, ganeshaConfiguration } from './support/configuration.ts'
import { startDnsmasq, startGanesha } from './support/daemons.ts'
import { buildBootableSystem, buildDemoImage, copyRootTree } from './support/demo-image.ts'
import { powerOn, userModeLinux } from './support/machines.ts'
import { openNetwork } from './support/network.ts'

const seconds = 180

test('two machines of one image have roots over NFSv4.2 at once', async () => {
  await using cleanup = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'netimage-two-'))
  cleanup.defer(() => rmSync(directory, { recursive: true, force: true }))
  const network = cleanup.use(await openNetwork('two-machines'))
  const demo = await buildBootableSystem('x86_64-linux', { rootOptions: 'vers=4.2,proto=tcp' })
  const image = await buildDemoImage(demo, join(directory, 'image'), { boot: [] })
  const names = ['alpha', 'beta'] as const
  const exports: Record<string, string> = {}
  for (const name of names) {
    exports[`/srv/${name}`] = await copyRootTree(image, join(directory, name))
  }
  await startDnsmasq(network, dnsmasqConfiguration(network))
  await startGanesha(network, ganeshaConfiguration(exports))

  const [entry] = image.manifest.system.entries
  assert.ok(entry && demo.uml)
  const { uml } = demo
  const line = `init=${entry.init} netimage.onfail=poweroff:1 demo.verify demo.poweroff`
  const boot = async (name: string, mac: string) => {
    const kernelLine = `${line} root=/dev/nfs nfsroot=${network.server}:/srv/${name}`
    const machine = userModeLinux({ ...uml, kernelLine })
    return await powerOn(network, { name, mac, machine })
  }
  const machines = [
    await boot('alpha', '52:54:00:00:00:01'),
    await boot('beta', '52:54:00:00:00:02'),
  ]
  await Promise.all(machines.map((machine) => machine.waitForEnd(seconds)))
  for (const machine of machines) {
    const said = machine.lines().map(({ text }) => text)
    assert.ok(said.includes('netimage-demo: registered'), machine.tail(Infinity))
    const verified = `netimage-demo: verified ${image.manifest.closure.length} paths`
    assert.ok(said.includes(verified), machine.tail(Infinity))
    assert.ok(!said.some((text) => /lost \d+ locks/.test(text)), machine.tail(Infinity))
  }
})
