// Two machines of one image mount their roots over NFSv4 at once. Stage 1 must identify each of
// them to the server. Otherwise each machine takes away the locks of the other.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import { buildDemoSystem } from '../../demo/system/build.ts'
import { cacheDirectory } from './support/cache.ts'
import { dnsmasqConfiguration, ganeshaConfiguration } from './support/configuration.ts'
import { startDnsmasq, startGanesha } from './support/daemons.ts'
import { buildDemoImage, copyRootTree, rootDevice, type DemoImage } from './support/demo-image.ts'
import { findingsOf } from './support/findings.ts'
import { powerOn, userModeLinux, type PoweredMachine } from './support/machines.ts'
import { openNetwork } from './support/network.ts'

const rule = 'nfs4-client-names'
/** The server takes away locks or open files of one machine. */
const disturbed = /lost \d+ locks|Input\/output error|could not be registered|verification failed/

suite('two machines of one image with roots over NFSv4.2', () => {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-two-'))
  after(() => rmSync(directory, { recursive: true, force: true }))
  let fix: string | undefined

  test('without names, take locks and open files from each other, as check predicts', async () => {
    const image = await build('nameless', 'modprobe nfs')
    const found = (await findingsOf(image.image)).get(rule)
    assert.equal(found?.level, 'warning')
    fix = /^ *(cat .*)$/m.exec(found.fix)?.[1]
    await bootTwo(image, async (machines) => {
      await Promise.any(machines.map((machine) => machine.waitFor(disturbed)))
    })
  })

  test('with the fix of check, keep their locks and open files', async () => {
    assert.ok(fix !== undefined)
    const image = await build('named', `modprobe nfs; ${fix}`)
    assert.equal((await findingsOf(image.image)).get(rule), undefined)
    const verified = `netimage-demo: verified ${image.manifest.closure.length} paths`
    await bootTwo(image, async (machines) => {
      await Promise.all(machines.map((machine) => machine.waitForEnd()))
      for (const machine of machines) {
        const said = machine.lines().map(({ text }) => text)
        assert.ok(said.includes('netimage-demo: registered'), machine.tail(Infinity))
        assert.ok(said.includes(verified), machine.tail(Infinity))
        assert.ok(!said.some((text) => disturbed.test(text)), machine.tail(Infinity))
      }
    })
  })

  /** @param load the commands of stage 1 that load the NFS client */
  async function build(name: string, load: string): Promise<DemoImage> {
    const demo = await buildDemoSystem({
      cacheDirectory: cacheDirectory('demo-downloads'),
      worldDirectory: cacheDirectory('demo-nix'),
      rootDevice,
      rootOptions: 'vers=4.2,proto=tcp',
      changes: { changeInitrd: `sed -i 's#modprobe nfs nfs4_unique_id=.*#${load}#' init` },
    })
    return await buildDemoImage(demo, join(directory, name), { boot: [] })
  }

  async function bootTwo(
    image: DemoImage,
    watch: (machines: readonly PoweredMachine[]) => Promise<void>,
  ): Promise<void> {
    await using network = await openNetwork('two-machines')
    const roots = join(network.directory, 'roots')
    mkdirSync(roots)
    const names = ['alpha', 'beta']
    const exports: Record<string, string> = {}
    for (const name of names) {
      exports[`/srv/${name}`] = await copyRootTree(image, join(roots, name))
    }
    await startDnsmasq(network, dnsmasqConfiguration(network))
    await startGanesha(network, ganeshaConfiguration(exports))
    const [entry] = image.manifest.system.entries
    const { uml } = image.demo
    assert.ok(entry && uml)
    const line = `init=${entry.init} netimage.onfail=poweroff:1 demo.verify demo.poweroff`
    const machines: PoweredMachine[] = []
    for (const [index, name] of names.entries()) {
      const kernelLine = `${line} root=/dev/nfs nfsroot=${network.server}:/srv/${name}`
      const machine = userModeLinux({ ...uml, kernelLine })
      machines.push(await powerOn(network, { name, mac: `52:54:00:00:00:0${index + 1}`, machine }))
    }
    await watch(machines)
  }
})
