// Demo systems that do not boot. Each has the flaw that one rule of `netimage check` finds.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildDemoSystem, type DemoSystemOptions } from '../../../demo/system/build.ts'
import { cacheDirectory } from './cache.ts'
import { dnsmasqConfiguration, ganeshaConfiguration } from './configuration.ts'
import { startDnsmasq, startGanesha } from './daemons.ts'
import { buildDemoImage, type DemoImage } from './demo-image.ts'
import { findingsOf, type Finding } from './findings.ts'
import { powerOn, userModeLinux, type PoweredMachine } from './machines.ts'
import { openNetwork } from './network.ts'

export type Flaw = {
  system?: Pick<DemoSystemOptions, 'rootOptions' | 'changes'>
  /** The device in the fstab, for the path of the root on the server. */
  deviceOf?: (path: string) => string
  level?: 'error' | 'warning'
  /** The console shows this instead of a finished boot. Undefined: another test boots such a system. */
  shows?: RegExp
  /** Whether the printed fix is the root file system of the system without flaws, which boots. */
  isMendedByFstab?: boolean
}

const server = '10.66.0.1'
const stage2 = readFileSync(join(import.meta.dirname, '../../../demo/system/stage-2.sh'), 'utf8')
const registration = /^@shell@ @localCommands@$/m

/** NixOS's script of stage 1 does this after it mounted the root. */
const flush = [
  'for interface in $(listInterfaces); do',
  '  ip address flush dev "$interface"',
  '  ip link set dev "$interface" down',
  'done',
].join('\\n')

export const flaws: Record<string, Flaw> = {
  'root-not-nfs': {
    system: { changes: { rootType: 'ext4' }, rootOptions: 'defaults' },
    deviceOf: () => '/dev/disk/by-label/NIXOS_SD',
    shows: /no root: cannot mount \/dev\/disk\/by-label\/NIXOS_SD \(ext4/,
    isMendedByFstab: true,
  },
  'root-mismatch': {
    deviceOf: (path) => `${server}:${path}-of-another`,
    shows: /no root: cannot mount 10\.66\.0\.1:\S+-of-another/,
    isMendedByFstab: true,
  },
  'nfs-options-in-device': {
    deviceOf: (path) => `${server}:${path},v3`,
    shows: /no root: cannot mount 10\.66\.0\.1:\S+,v3 \(nfs/,
    isMendedByFstab: true,
  },
  'nfs-lock': {
    system: { rootOptions: 'vers=3,proto=tcp' },
    shows: /mount: mounting .* failed: Connection refused/,
    isMendedByFstab: true,
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
    // update.slow.ts boots it: in User Mode Linux, the network driver is built into the kernel.
  },
  'no-network-setup': {
    system: { changes: { changeInitrd: 'sed -i "/udhcpc/d" init; touch run/lease' } },
    shows: /no root: no DHCP server answers/,
  },
  'network-torn-down': {
    system: {
      // The kernel prints it after this many tenths of a second, with one retransmission.
      rootOptions: 'vers=3,proto=tcp,nolock,timeo=30,retrans=1',
      changes: { changeInitrd: `sed -i 's/^say "root .*/&\\n${flush}/' init` },
    },
    shows: /nfs: server 10\.66\.0\.1 not responding/,
  },
  'no-registration': {
    level: 'warning',
    shows: /error: path '.*' is not valid/,
  },
}

/** Systems with these flaws, and one without flaws, on a network that serves their roots. */
export type FlawedSystems = {
  /** The findings of check for a system. */
  findingsOf: (name: string) => Promise<Map<string, Finding>>
  boot: (name: string) => Promise<PoweredMachine>
  [Symbol.asyncDispose]: () => Promise<void>
}

export const withoutFlaws = 'nothing'
const soundOptions = 'vers=3,proto=tcp,nolock'
const pathOf = (rule: string) => `/srv/${rule}`

/** @param rules the rules whose flaws are needed */
export async function openFlawedSystems(rules: readonly string[]): Promise<FlawedSystems> {
  await using cleanup = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'netimage-failing-'))
  cleanup.defer(() => rmSync(directory, { recursive: true, force: true }))
  const images = new Map<string, DemoImage>()
  const exports: Record<string, string> = {}
  const withoutRegistration = join(directory, 'stage-2.sh')
  assert.match(stage2, registration)
  writeFileSync(withoutRegistration, stage2.replace(registration, ''))

  async function build(
    name: string,
    path: string,
    system: Partial<DemoSystemOptions>,
  ): Promise<DemoImage> {
    const demo = await buildDemoSystem({
      cacheDirectory: cacheDirectory('demo-downloads'),
      worldDirectory: cacheDirectory('demo-nix'),
      ...system,
    })
    const options = { nfsRoot: `${server}:${path},v3` }
    const image = await buildDemoImage(demo, join(directory, name), { options, boot: [] })
    images.set(name, image)
    return image
  }

  for (const rule of [...rules, withoutFlaws]) {
    const flaw: Flaw | undefined = flaws[rule]
    const path = pathOf(rule)
    const rootDevice = flaw?.deviceOf?.(path) ?? `${server}:${path}`
    const changes = rule === 'no-registration' ? { stage2: withoutRegistration } : undefined
    const system = {
      rootOptions: soundOptions,
      ...flaw?.system,
      rootDevice,
      ...(changes && { changes }),
    }
    const image = await build(rule, path, system)
    exports[path] = image.rootTree
  }

  const network = cleanup.use(await openNetwork(`failing-${rules.length}`))
  await startDnsmasq(network, dnsmasqConfiguration(network))
  await startGanesha(network, ganeshaConfiguration(exports))
  const names = [...images.keys()]
  const imageOf = (name: string) => {
    const image = images.get(name)
    assert.ok(image, name)
    return image
  }
  const open = cleanup.move()
  return {
    findingsOf: (name) => findingsOf(imageOf(name).image),
    async boot(name) {
      const { demo, manifest } = imageOf(name)
      const [entry] = manifest.system.entries
      assert.ok(entry && demo.uml)
      const words = [
        `init=${entry.init}`,
        'loglevel=6',
        'demo.verify',
        'netimage.onfail=poweroff:1',
      ]
      const machine = userModeLinux({ ...demo.uml, kernelLine: words.join(' ') })
      const mac = `52:54:00:00:01:${10 + names.indexOf(name)}`
      return await powerOn(network, { name, mac, machine })
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

/** Reads the root for a demo system from lines for `fileSystems."/"`. */
function rootOfFix(fix: string): Pick<DemoSystemOptions, 'rootDevice' | 'rootOptions'> {
  const [, rootDevice, fsType, options = ''] =
    /fileSystems\."\/" = \{\n +device = "(.*)";\n +fsType = "(.*)";\n +options = \[ (.*) \];\n\};/.exec(
      fix,
    ) ?? []
  assert.ok(rootDevice !== undefined && fsType === 'nfs', fix)
  return { rootDevice, rootOptions: options.replaceAll('"', '').split(' ').join(',') }
}

/** Check names the rule, and the machine stops as the manual says, if it is booted here. */
export async function assertFails(systems: FlawedSystems, rule: string): Promise<void> {
  const flaw = flaws[rule]
  assert.ok(flaw)
  const { shows, level = 'error', isMendedByFstab } = flaw
  const finding = (await systems.findingsOf(rule)).get(rule)
  assert.equal(finding?.level, level)
  if (isMendedByFstab) {
    const sound = { rootDevice: `${server}:${pathOf(rule)}`, rootOptions: soundOptions }
    assert.deepEqual(rootOfFix(finding.fix), sound)
  }
  if (!shows) return
  const machine = await systems.boot(rule)
  await machine.waitFor(shows)
  await machine.powerOff()
  const said = machine.lines().map(({ text }) => text)
  assert.ok(!said.includes('netimage-demo: registered'), said.join('\n'))
}

/** Check has no findings, and the machine boots without errors. */
export async function assertIsUp(systems: FlawedSystems, name: string): Promise<void> {
  const found = [...(await systems.findingsOf(name)).values()]
  assert.deepEqual(
    found.filter(({ level }) => level !== 'note'),
    [],
  )
  const machine = await systems.boot(name)
  await machine.waitFor(/netimage-demo: verified/)
  await machine.powerOff()
}
