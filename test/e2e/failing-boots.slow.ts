// What `netimage check` foretells, on machines that really boot: each system is broken in one way,
// the check names the rule, and the machine stops where the manual says that it stops.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import * as v from 'valibot'
import { buildDemoSystem, type DemoSystemOptions } from '../../demo/system/build.ts'
import { netimage } from '../support/netimage.ts'
import { cacheDirectory } from './support/cache.ts'
import { dnsmasqConfiguration, ganeshaConfiguration } from './support/configuration.ts'
import { startDnsmasq, startGanesha } from './support/daemons.ts'
import { buildDemoImage, type DemoImage } from './support/demo-image.ts'
import { powerOn, userModeLinux, x86Direct, type PoweredMachine } from './support/machines.ts'
import { openNetwork, type Network } from './support/network.ts'

type Flaw = {
  system?: Pick<DemoSystemOptions, 'rootOptions' | 'changes'>
  /** Where the fstab says that the root is, by the path that the server has for it. */
  deviceOf?: (path: string) => string
  /** Where nfsRoot says that it is. */
  nfsRootOf?: (path: string) => string
  /** User Mode Linux has its network built in. */
  machine?: 'uml' | 'qemu'
  level?: 'error' | 'warning'
  /** What the console shows instead of a machine that is up. */
  shows: RegExp
}

const server = '10.66.0.1'
const stage2 = readFileSync(join(import.meta.dirname, '../../demo/system/stage-2.sh'), 'utf8')
const registration = /^if \[ -f \/nix-path-registration \][^]*?^fi$/m

const flaws: Record<string, Flaw> = {
  'root-not-nfs': {
    system: { changes: { rootType: 'ext4' }, rootOptions: 'defaults' },
    deviceOf: () => '/dev/disk/by-label/NIXOS_SD',
    shows: /no root: cannot mount \/dev\/disk\/by-label\/NIXOS_SD \(ext4/,
  },
  'root-mismatch': {
    deviceOf: (path) => `${server}:${path}-of-another`,
    nfsRootOf: (path) => `${server}:${path},v3`,
    shows: /no root: cannot mount 10\.66\.0\.1:\S+-of-another/,
  },
  'nfs-options-in-device': {
    deviceOf: (path) => `${server}:${path},v3`,
    shows: /no root: cannot mount 10\.66\.0\.1:\S+,v3 \(nfs/,
  },
  'nfs-lock': {
    system: { rootOptions: 'vers=3,proto=tcp' },
    shows: /mount: mounting .* failed: Connection refused/,
  },
  'broken-initrd': {
    system: { changes: { initrdBytes: '500000' } },
    shows: /Initramfs unpacking failed/,
  },
  'no-nfs-client': {
    system: {
      changes: {
        changeInitrd: 'chmod -R u+w lib; find lib/modules -name "nfs*.ko*" -exec rm {} +',
      },
    },
    shows: /mount: mounting .* failed: No such device/,
  },
  'no-network-driver': {
    system: {
      changes: { changeInitrd: 'chmod -R u+w lib; rm -r lib/modules/*/kernel/drivers/net' },
    },
    machine: 'qemu',
    shows: /no root: this machine has no network interface/,
  },
  'no-network-setup': {
    system: { changes: { changeInitrd: 'sed -i "/udhcpc/d" init; touch run/lease' } },
    shows: /no root: no DHCP server answers/,
  },
  'no-registration': {
    level: 'warning',
    shows: /error: path '.*' is not valid/,
  },
}

const seconds = 180

suite('what check foretells', { concurrency: 2 }, () => {
  const cleanup = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'netimage-failing-'))
  cleanup.defer(() => rmSync(directory, { recursive: true, force: true }))
  const images = new Map<string, DemoImage>()
  let network: Network

  before(async () => {
    const withoutRegistration = join(directory, 'stage-2.sh')
    assert.match(stage2, registration)
    writeFileSync(withoutRegistration, stage2.replace(registration, ''))
    const exports: Record<string, string> = {}
    const sound: Flaw = { shows: /up/ }
    for (const [rule, flaw] of Object.entries({ ...flaws, nothing: sound })) {
      const path = `/srv/${rule}`
      const device = flaw.deviceOf?.(path) ?? `${server}:${path}`
      const changes = rule === 'no-registration' ? { stage2: withoutRegistration } : undefined
      const demo = await buildDemoSystem({
        cacheDirectory: cacheDirectory('demo-downloads'),
        worldDirectory: cacheDirectory('demo-nix'),
        rootDevice: device,
        ...flaw.system,
        ...(changes && { changes }),
      })
      const image = await buildDemoImage(demo, join(directory, rule), {
        options: { nfsRoot: flaw.nfsRootOf?.(path) ?? `${server}:${path},v3` },
        boot: [],
      })
      images.set(rule, image)
      exports[path] = image.rootTree
    }
    network = cleanup.use(await openNetwork('failing'))
    await startDnsmasq(network, dnsmasqConfiguration(network))
    await startGanesha(network, ganeshaConfiguration(exports))
  })
  after(() => cleanup.disposeAsync())

  async function boot(rule: string, kind: Flaw['machine'], mac: string): Promise<PoweredMachine> {
    const image = images.get(rule)
    const [entry] = image?.manifest.system.entries ?? []
    assert.ok(image && entry?.initrd !== undefined && image.demo.uml)
    const line = [`init=${entry.init}`, 'loglevel=4', 'demo.verify', 'netimage.onfail=poweroff:1']
    const { world } = image.demo
    const [kernel, initrd] = [world.realPath(entry.kernel), world.realPath(entry.initrd)]
    const machine =
      kind === 'qemu'
        ? x86Direct({ kernel, initrd, kernelLine: ['console=ttyS0', ...line].join(' ') })
        : userModeLinux({ ...image.demo.uml, kernelLine: line.join(' ') })
    return await powerOn(network, { name: rule, mac, machine })
  }

  for (const [index, [rule, flaw]] of Object.entries(flaws).entries()) {
    const { machine: kind, shows, level = 'error' } = flaw
    test(`${rule}: it is named, and the machine does stop there`, async () => {
      assert.equal((await findingsOf(images.get(rule)?.image ?? '')).get(rule), level)
      const machine = await boot(rule, kind, `52:54:00:00:01:${10 + index}`)
      await machine.waitFor(shows, seconds)
      await machine.powerOff()
      const said = machine.lines().map(({ text }) => text)
      if (rule !== 'no-registration') {
        assert.ok(!said.includes('netimage-demo: registered'), said.join('\n'))
      }
    })
  }

  for (const kind of ['uml', 'qemu'] as const) {
    test(`nothing is found in a system without flaws, and it is up on ${kind}`, async () => {
      const found = await findingsOf(images.get('nothing')?.image ?? '')
      assert.deepEqual(
        [...found.values()].filter((level) => level !== 'note'),
        [],
      )
      const machine = await boot('nothing', kind, `52:54:00:00:02:${kind === 'uml' ? '01' : '02'}`)
      await machine.waitFor(/netimage-demo: verified/, seconds)
      await machine.powerOff()
    })
  }
})

const findingsSchema = v.object({
  findings: v.array(v.object({ rule: v.string(), level: v.string() })),
})

async function findingsOf(image: string): Promise<Map<string, string>> {
  const run = await netimage(['check', image, '--json'])
  const { findings } = v.parse(findingsSchema, JSON.parse(run.stdout))
  return new Map(findings.map(({ rule, level }) => [rule, level]))
}
