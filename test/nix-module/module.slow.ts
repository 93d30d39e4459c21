// Real Nix evaluates the module on a fixture of NixOS's options.

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import * as v from 'valibot'
import { parseConfig } from '../../src/image/options.ts'
import {
  findingsOf,
  networkd,
  networkModules,
  nfsModules,
  systemdInitrd,
  systemdParts,
} from '../check/make-system.ts'
import { runProgram, type NixWorld } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { createFixtureWorld, systemExpression, type SystemRequest } from './support.ts'

const words = v.array(v.string())
const mountSchema = v.object({ device: v.nullable(v.string()), fsType: v.string(), options: words })
const settingsSchema = v.record(v.string(), v.unknown())
const networkSchema = v.object({
  matchConfig: settingsSchema,
  networkConfig: settingsSchema,
  dhcpV4Config: settingsSchema,
})
const summarySchema = v.object({
  undeclared: words,
  failing: words,
  warnings: words,
  fileSystems: v.record(v.string(), mountSchema),
  kernelModules: words,
  availableKernelModules: words,
  initrdNetwork: v.object({
    enable: v.boolean(),
    flushBeforeStage2: v.boolean(),
    udhcpc: v.object({ enable: v.boolean(), extraArgs: words }),
  }),
  initrdNetworks: v.record(v.string(), networkSchema),
  initrdServices: v.record(v.string(), v.object({ before: words, script: v.string() })),
  initrdTargets: v.record(v.string(), v.object({ unitConfig: settingsSchema })),
  preDevices: v.nullable(v.string()),
  postDevices: v.nullable(v.string()),
  kernelParams: words,
  supportsInitrdSecrets: v.boolean(),
  contents: words,
  networks: v.record(v.string(), networkSchema),
  unmanaged: words,
  persistent: v.boolean(),
  services: v.record(v.string(), v.object({ onFailure: v.optional(words) })),
  watchdog: v.nullable(v.string()),
  postBoot: v.nullable(v.string()),
  settings: v.record(v.string(), v.unknown()),
  rootDirectoryName: v.string(),
  nfsRoot: v.string(),
  storePaths: v.number(),
})

const releases: Record<string, SystemRequest> = {
  '24.05, scripted stage 1': { release: '24.05' },
  '24.05, systemd stage 1': {
    release: '24.05',
    configuration: '{ boot.initrd.systemd.enable = true; }',
  },
  '25.11, scripted stage 1': { release: '25.11' },
  '26.05, systemd stage 1': {
    release: '26.05',
    configuration: '{ boot.initrd.systemd.enable = true; }',
  },
  '26.11, which has no scripts': { release: '26.11', hasScripts: false },
}
const platforms = ['x86_64-linux', 'aarch64-linux']

suite('the module', () => {
  const directory = temporaryDirectory()
  let world: NixWorld
  before(async () => {
    world = await createFixtureWorld(join(directory, 'world'))
  })

  async function evaluate(request: SystemRequest = {}) {
    const expression = `with ${systemExpression(request)}; {
      inherit undeclared;
      inherit (config) fileSystems warnings;
      inherit (config.boot.initrd) kernelModules availableKernelModules;
      inherit (config.netImage) rootDirectoryName nfsRoot;
      failing = map (each: each.message) (builtins.filter (each: !each.assertion) config.assertions);
      initrdNetwork = config.boot.initrd.network;
      initrdNetworks = config.boot.initrd.systemd.network.networks;
      initrdServices = builtins.mapAttrs (_: { before, script, ... }: { inherit before script; })
        config.boot.initrd.systemd.services;
      initrdTargets = config.boot.initrd.systemd.targets;
      preDevices = config.boot.initrd.preDeviceCommands or null;
      postDevices = config.boot.initrd.postDeviceCommands or null;
      inherit (config.boot) kernelParams;
      inherit (config.boot.loader) supportsInitrdSecrets;
      contents = builtins.attrNames config.boot.initrd.systemd.contents;
      inherit (config.systemd.network) networks;
      inherit (config.networking.networkmanager) unmanaged;
      inherit (config.networking.dhcpcd) persistent;
      inherit (config.systemd) services;
      watchdog =
        config.systemd.settings.Manager.RuntimeWatchdogSec or config.systemd.watchdog.runtimeTime;
      postBoot = config.boot.postBootCommands or null;
      settings = builtins.fromJSON (
        builtins.unsafeDiscardStringContext config.system.build.netImage.settings.text
      );
      storePaths = builtins.length config.netImage.storePaths;
    }`
    const output = await world.nix(['eval', '--impure', '--json', '--expr', expression])
    return v.parse(summarySchema, JSON.parse(output))
  }

  /** Instantiates the derivations and builds nothing. */
  async function instantiate(attribute: string, request: SystemRequest): Promise<string> {
    const expression = `(${systemExpression(request)}).config.${attribute}.drvPath`
    return await world.nix(['eval', '--impure', '--raw', '--expr', expression])
  }

  for (const [name, request] of Object.entries(releases)) {
    for (const system of platforms) {
      test(`${name}, ${system}: sets only options that exist, and instantiates`, async () => {
        const { undeclared, failing } = await evaluate({ ...request, system })
        assert.deepEqual({ undeclared, failing }, { undeclared: [], failing: [] })
        for (const attribute of ['netImage', 'netImageTarball', 'toplevel']) {
          const path = await instantiate(`system.build.${attribute}`, { ...request, system })
          assert.match(path, /\.drv$/)
        }
      })
    }
  }

  test('has the names and defaults of the net-image module of raspberry-pi-nix', async () => {
    const { rootDirectoryName, nfsRoot, storePaths } = await evaluate({ system: 'aarch64-linux' })
    const name = 'nixos-net-image-26.05.20261122.fixture-aarch64-linux'
    assert.equal(rootDirectoryName, name)
    assert.equal(nfsRoot, `192.168.0.108:/mnt/nfsshare/${name},v3`)
    assert.equal(storePaths, 1)
  })

  test('more store paths are added to the system', async () => {
    const configuration = '{ netImage.storePaths = [ "/nix/store/x" ]; }'
    assert.equal((await evaluate({ configuration })).storePaths, 2)
  })

  const roots = {
    '10.0.0.5:/srv/pi,v3': ['10.0.0.5:/srv/pi', ['vers=3', 'proto=tcp', 'nolock']],
    '10.0.0.5:/srv/pi': ['10.0.0.5:/srv/pi', ['vers=3', 'proto=tcp', 'nolock']],
    'server.lan:/srv/pi,v4.2,rsize=8192': [
      'server.lan:/srv/pi',
      ['vers=4.2', 'proto=tcp', 'rsize=8192'],
    ],
    '10.0.0.5:/srv/pi/,v3': ['10.0.0.5:/srv/pi', ['vers=3', 'proto=tcp', 'nolock']],
    '[fd00::1]:/srv/pi,nfsvers=4': ['[fd00::1]:/srv/pi', ['vers=4', 'proto=tcp6']],
  } as const
  for (const [nfsRoot, [device, options]] of Object.entries(roots)) {
    test(`the root of nfsRoot ${nfsRoot} has a valid device and valid options`, async () => {
      const { fileSystems } = await evaluate({
        configuration: `{ netImage.nfsRoot = "${nfsRoot}"; }`,
      })
      // NixOS adds its own options after them.
      const root = { device, fsType: 'nfs', options: [...options, 'x-initrd.mount'] }
      assert.deepEqual(fileSystems['/'], root)
      const boot = fileSystems['/boot/firmware']
      assert.equal(boot?.device, `${device.slice(0, device.indexOf(':/'))}:/srv/boot`)
      assert.deepEqual(boot?.options, [...options, 'noauto', 'nofail'])
    })
  }

  test('a root at the top of the server has its boot tree beside it', async () => {
    const configuration = '{ netImage.nfsRoot = "10.0.0.5:/pi,v3"; }'
    const { fileSystems } = await evaluate({ configuration })
    assert.equal(fileSystems['/boot/firmware']?.device, '10.0.0.5:/boot')
  })

  test('enabling only the network of systemd’s stage 1 is enough', async () => {
    const configuration = `{
      boot.initrd = {
        systemd.enable = true;
        systemd.network.enable = true;
        network.enable = false;
      };
    }`
    assert.deepEqual((await evaluate({ configuration })).failing, [])
  })

  test('an init without bash registers in a unit', async () => {
    const configuration = '{ system.nixos-init.enable = true; }'
    const { postBoot, services } = await evaluate({ release: '25.11', configuration })
    assert.equal(postBoot, '')
    assert.deepEqual(Object.keys(services), [
      'netimage-bless',
      'netimage-not-good',
      'register-net-image',
    ])
  })

  test('the system is in the image even if storePaths is set with mkForce', async () => {
    const closure = async (configuration: string) =>
      await instantiate('system.build.netImage.closureInfo', { configuration })
    const forced =
      '(a: { netImage.storePaths = a.lib.mkForce [ a.config.system.build.toplevel ]; })'
    const none = '({ lib, ... }: { netImage.storePaths = lib.mkForce [ ]; })'
    assert.equal(await closure(none), await closure('{ }'))
    assert.equal(await closure(forced), await closure('{ }'))
  })

  test('a person’s root replaces the module’s', async () => {
    const configuration = `
      { lib, ... }: {
        fileSystems."/".device = "10.0.0.9:/other";
        fileSystems."/".options = lib.mkForce [ "vers=4" ];
      }`
    const { fileSystems, failing } = await evaluate({ configuration: `(${configuration})` })
    assert.equal(fileSystems['/']?.device, '10.0.0.9:/other')
    assert.deepEqual(fileSystems['/'].options, ['vers=4'])
    assert.deepEqual(
      failing.map((message) => message.split(':')[0]),
      ['netImage, root-mismatch'],
    )
  })

  test('scripted stage 1 gets an address from udhcpc, and keeps it', async () => {
    const { initrdNetwork, initrdNetworks, postBoot, services } = await evaluate({
      release: '24.05',
    })
    assert.deepEqual(initrdNetwork, {
      enable: true,
      flushBeforeStage2: false,
      // Three seconds each, so more than the thirty seconds of a switch’s spanning tree.
      udhcpc: { enable: true, extraArgs: ['-t', '12'] },
    })
    assert.deepEqual(initrdNetworks, {})
    assert.match(postBoot ?? '', /if \[ -f \/nix-path-registration \]; then/)
    assert.deepEqual(Object.keys(services), ['netimage-bless', 'netimage-not-good'])
  })

  test('systemd stage 1 has a network, mount.nfs, and the files that mount.nfs reads', async () => {
    const { initrdNetworks, contents, postBoot, services } = await evaluate({
      release: '26.11',
      hasScripts: false,
    })
    assert.deepEqual(initrdNetworks, {
      '98-netimage-root': {
        matchConfig: { Type: 'ether', Kind: '!*' },
        networkConfig: { DHCP: 'ipv4', KeepConfiguration: 'yes' },
        dhcpV4Config: { ClientIdentifier: 'mac' },
      },
    })
    assert.deepEqual(contents, ['/etc/netconfig', '/etc/protocols'])
    assert.equal(postBoot, null)
    assert.deepEqual(Object.keys(services), [
      'netimage-bless',
      'netimage-not-good',
      'register-net-image',
    ])
  })

  for (const release of ['24.05', '24.11', '26.05']) {
    test(`${release}: mount.nfs is in /sbin of the initrd, which util-linux searches`, async () => {
      const configuration = '{ boot.initrd.systemd.enable = true; }'
      const system = systemExpression({ release, configuration })
      const expression = `(${system}).config.system.build.initrdBinEnv`
      const [path = ''] = await world.build({ expression })
      const programs = readdirSync(join(world.realPath(path), 'sbin'))
      assert.deepEqual(programs.filter((name) => name.startsWith('mount.')).toSorted(), [
        'mount.nfs',
        'mount.nfs4',
      ])
    })
  }

  test('24.05: the fix of no-nfs-helper puts mount.nfs into /sbin of the initrd', async () => {
    const files = [...nfsModules, ...networkModules, ...networkd]
    const [finding] = await findingsOf({ ...systemdParts, initrd: systemdInitrd({ files }) })
    assert.equal(finding?.rule, 'no-nfs-helper')
    const configuration = `({ config, pkgs, ... }: { ${finding.fix} })`
    const system = systemExpression({ release: '24.05', hasModule: false, configuration })
    const expression = `(${system}).config.system.build.initrdBinEnv`
    const [path = ''] = await world.build({ expression })
    assert.ok(readdirSync(join(world.realPath(path), 'sbin')).includes('mount.nfs'))
  })

  test('a machine that finds no root starts again, unless retryAfter is null', async () => {
    const own = 'boot.kernelParams = [ "panic=5" ];'
    const { kernelParams } = await evaluate({ configuration: `{ ${own} }` })
    // The last panic= counts.
    assert.deepEqual(kernelParams, [
      ...['boot.panic_on_fail', 'panic=30', 'systemd.crash_reboot'],
      'panic=5',
    ])
    const waiting = await evaluate({ configuration: '{ netImage.retryAfter = null; }' })
    assert.deepEqual(waiting.kernelParams, [])
  })

  test('a 32-bit machine shows its programs numbers of files that have 32 bits', async () => {
    const { kernelParams } = await evaluate({ system: 'armv7l-linux' })
    assert.equal(kernelParams.at(-1), 'nfs.enable_ino64=0')
  })

  test('stage 1 has a limit of time, unless it is null or retryAfter is null', async () => {
    const scripted = await evaluate({ release: '24.05' })
    assert.match(scripted.preDevices ?? '', /^ *sleep 300 &&$/m)
    assert.deepEqual(scripted.initrdTargets, {})
    const systemd = 'boot.initrd.systemd.enable = true;'
    const { initrdTargets, preDevices } = await evaluate({
      configuration: `{ ${systemd} netImage.stage1TimeLimit = 60; }`,
    })
    const unitConfig = { JobTimeoutSec: 60, JobTimeoutAction: 'reboot-immediate' }
    assert.deepEqual([initrdTargets, preDevices], [{ initrd: { unitConfig } }, ''])
    for (const off of ['netImage.retryAfter = null;', 'netImage.stage1TimeLimit = null;']) {
      const none = await evaluate({ configuration: `{ ${off} }` })
      assert.equal(none.preDevices, '')
      const { initrdTargets } = await evaluate({ configuration: `{ ${systemd} ${off} }` })
      assert.deepEqual(initrdTargets, {})
    }
  })

  test('the limit of scripted stage 1 ends with stage 1, and spares a person’s shell', async () => {
    const { preDevices } = await evaluate({ release: '24.05' })
    const run = async (before: string) => {
      // Functions, so that no program of this machine can be reached.
      const programs = 'sleep() { "$wait"; }; reboot() { echo "reboot $*"; }'
      const commands = `${programs}\n${before}\n${preDevices}\nwait`
      return await runProgram('sh', ['-euc', `allowShell=\nwait=true\n${commands}`])
    }
    assert.match(await run(''), /takes more than 300 seconds.*\nreboot -f\n$/)
    // NixOS kills all processes before stage 2.
    assert.equal(await run("killed() { sh -c 'kill -9 $$'; }; wait=killed"), '')
    assert.equal(await run('allowShell=1'), '')
  })

  /** Runs the command of a unit in a root of its own, after and before other commands. */
  async function runUnit(name: string, before: string, after: string): Promise<string[]> {
    const unit = `systemd.services.${name}.serviceConfig.ExecStart`
    const [path = ''] = await world.build({ expression: `(${systemExpression()}).config.${unit}` })
    const commands = `
      mount -t tmpfs tmpfs /run
      mkdir /run/toplevel
      ln -s toplevel /run/booted-system
      # Not each computer that runs this test has /nix.
      sed 's|=/nix/var/netimage$|=/run/nix-var/netimage|' "$1" > /run/unit
      chmod +x /run/unit
      ${before}
      /run/unit
      ${after}`
    const namespace = ['--map-root-user', '--mount', 'sh', '-euc', commands, 'sh']
    return (await runProgram('unshare', [...namespace, world.realPath(path)])).split('\n')
  }

  test('a good boot is noted whole or not at all', async () => {
    const [blessed = '', bootId, afterwards] = await runUnit(
      'netimage-bless',
      '',
      `cat /run/nix-var/netimage/blessed /proc/sys/kernel/random/boot_id
      # Without this program, the next boot cannot write its note safely.
      mount --bind /bin/false /usr/bin/sync
      ln -sfn / /run/booted-system
      /run/unit || cat /run/nix-var/netimage/blessed`,
    )
    assert.deepEqual(JSON.parse(blessed), { version: 1, bootId, toplevel: '/run/toplevel' })
    assert.equal(afterwards, blessed)
  })

  test('a boot that is not good is noted with the units that have failed', async () => {
    const { services } = await evaluate()
    assert.deepEqual(services['netimage-bless']?.onFailure, ['netimage-not-good.service'])
    const [noted = '', bootId, ...asked] = await runUnit(
      'netimage-not-good',
      String.raw`
      mkdir -p /run/systemd-of-test/bin
      printf '#!/bin/sh\necho "$*" > /run/asked; cat /run/failed-units' > /run/systemd-of-test/bin/systemctl
      chmod +x /run/systemd-of-test/bin/systemctl
      echo 'dev-disk\x2dby.mount loaded failed failed /dev/disk-by' > /run/failed-units
      echo 'web-answers.service loaded failed failed Web server' >> /run/failed-units`,
      `cat /run/nix-var/netimage/failed /proc/sys/kernel/random/boot_id /run/asked
      seq 1000 > /run/failed-units
      /run/unit
      grep -o '"[0-9]*"' /run/nix-var/netimage/failed | tail -n 1
      : > /run/failed-units
      /run/unit
      grep -o '"units".*' /run/nix-var/netimage/failed`,
    )
    const units = ['dev-disk\\x2dby.mount', 'web-answers.service']
    assert.deepEqual(JSON.parse(noted), { version: 1, bootId, toplevel: '/run/toplevel', units })
    assert.deepEqual(asked, [
      'list-units --failed --plain --full --no-legend',
      '"20"',
      '"units": [] }',
      '',
    ])
  })

  test('a watchdog watches systemd in each release, unless a person sets another time', async () => {
    for (const release of ['24.05', '25.05', '25.11', '26.05']) {
      assert.equal((await evaluate({ release })).watchdog, '10min', release)
    }
    const older = 'systemd.watchdog.runtimeTime = null;'
    const off = { release: '25.05', configuration: `{ ${older} }` }
    assert.equal((await evaluate(off)).watchdog, null)
    const newer = 'systemd.settings.Manager.RuntimeWatchdogSec = "off";'
    assert.equal((await evaluate({ configuration: `{ ${newer} }` })).watchdog, 'off')
  })

  test('secrets of the initrd are in the initrd, with any boot loader', async () => {
    const loader = 'boot.loader.supportsInitrdSecrets = true;'
    assert.equal((await evaluate({ configuration: `{ ${loader} }` })).supportsInitrdSecrets, false)
  })

  test('each network of a person has the client identifier that loaders use', async () => {
    const networks = `{
      by-shorthand.DHCP = "yes";
      by-name.networkConfig.DHCP = "ipv4";
      of-another-mind = { DHCP = "yes"; dhcpV4Config.ClientIdentifier = "duid"; };
      fixed.matchConfig.Name = "eth1";
    }`
    const summary = await evaluate({
      configuration: `{
        systemd.network = { enable = true; networks = ${networks}; };
        boot.initrd.systemd = { enable = true; network.networks = ${networks}; };
      }`,
    })
    for (const each of [summary.networks, summary.initrdNetworks]) {
      const identifiers = Object.entries(each).map(([name, { dhcpV4Config }]) => [
        name,
        dhcpV4Config['ClientIdentifier'],
      ])
      assert.deepEqual(Object.fromEntries(identifiers), {
        '98-netimage-root': 'mac',
        'by-shorthand': 'mac',
        'by-name': 'mac',
        'of-another-mind': 'duid',
        fixed: undefined,
      })
    }
  })

  test('over NFSv4, stage 1 gives each machine its own client name', async () => {
    const command = /^cat .* > \/sys\/module\/nfs\/parameters\/nfs4_unique_id$/m
    const root = 'netImage.nfsRoot = "10.0.0.5:/srv/pi,v4.2";'
    const scripted = await evaluate({ release: '24.05', configuration: `{ ${root} }` })
    assert.match(scripted.postDevices ?? '', command)
    assert.deepEqual(scripted.initrdServices, {})
    const { postDevices, initrdServices } = await evaluate({
      configuration: `{ ${root} boot.initrd.systemd.enable = true; }`,
    })
    assert.equal(postDevices, '')
    assert.deepEqual(initrdServices['nfs4-client-name']?.before, ['sysroot.mount'])
    assert.match(initrdServices['nfs4-client-name'].script, command)
    const version3 = await evaluate()
    assert.deepEqual([version3.postDevices, version3.initrdServices], ['', {}])
  })

  test('a root at an IPv6 address gives a warning if stage 1 asks only for IPv4', async () => {
    const root = 'netImage.nfsRoot = "[fd00::1]:/srv/pi,v4.2";'
    const scripted = await evaluate({ release: '24.05', configuration: `{ ${root} }` })
    assert.match(scripted.warnings.join('\n'), /boot\.initrd\.systemd\.enable = true/)
    const systemd = `{ ${root} boot.initrd.systemd.enable = true; }`
    assert.deepEqual((await evaluate({ configuration: systemd })).warnings, [])
    assert.deepEqual((await evaluate()).warnings, [])
  })

  test('no network manager of stage 2 changes the root’s interface', async () => {
    const plain = await evaluate()
    assert.equal(plain.persistent, true)
    assert.deepEqual([plain.networks, plain.unmanaged], [{}, []])
    const managed = await evaluate({
      configuration: '{ systemd.network.enable = true; networking.networkmanager.enable = true; }',
    })
    assert.deepEqual(Object.keys(managed.networks), ['98-netimage-root'])
    assert.deepEqual(managed.unmanaged, ['type:ethernet'])
  })

  test('boards add the drivers of their network, and a Pi adds its firmware', async () => {
    const configuration = '{ netImage.boards = [ "raspberry-pi-4" "virtual" ]; }'
    const { availableKernelModules, settings } = await evaluate({ configuration })
    assert.deepEqual(availableKernelModules, [
      ...['genet', 'bcm_phy_lib', 'broadcom'],
      ...['virtio_pci', 'virtio_mmio', 'virtio_net'],
    ])
    assert.match(String(settings['firmware']), /\/share\/raspberrypi\/boot$/)
  })

  test('a Raspberry Pi 5 gets the drivers that its kernel has as modules', async () => {
    const of = async (kernel: string) => {
      const boards = 'netImage.boards = [ "raspberry-pi-5" ];'
      const configuration = `{ ${boards} boot.kernelPackages.kernel = ${kernel}; }`
      return (await evaluate({ configuration })).availableKernelModules
    }
    const behindPcie = ['macb', 'pcie-brcmstb', 'clk-rp1']
    const ofKernelOrg = [...behindPcie, 'rp1_pci', 'pinctrl-rp1']
    assert.deepEqual(await of('{ pname = "linux"; }'), ofKernelOrg)
    const ownKernels = [
      '{ pname = "linux-rpi"; }',
      '{ pname = "linux"; src.meta.homepage = "https://github.com/raspberrypi/linux"; }',
    ]
    for (const kernel of ownKernels) assert.deepEqual(await of(kernel), [...behindPcie, 'rp1'])
  })

  test('a PC gets drivers by default', async () => {
    const modules = async (system: string) => (await evaluate({ system })).availableKernelModules
    assert.deepEqual((await modules('x86_64-linux')).slice(0, 4), ['e1000e', 'igb', 'igc', 'r8169'])
    assert.deepEqual(await modules('aarch64-linux'), [])
  })

  test('the settings are options of a config file, without those that are not set', async () => {
    const configuration = `{
      netImage = {
        boot = [ "ipxe" "uefi" ];
        ipxe = "/ipxe";
        uefiStub = "/stub";
        firmware = "/firmware";
        uboot = "/u-boot.bin";
        deviceTree = "broadcom/x.dtb";
        configTxt = "dtparam=audio=on";
        machines = [ "dc:a6:32:01:02:03" ];
        silence = [ "no-nfs-helper" ];
        populateRootCommands = "mkdir files/srv";
      };
    }`
    const { settings } = await evaluate({ configuration })
    const config = parseConfig(settings, 'the settings')
    const { storePaths, rootDirectoryName, nfsRoot, ...rest } = config
    assert.equal(storePaths?.length, 1)
    assert.ok(nfsRoot?.endsWith(`${rootDirectoryName},v3`))
    assert.deepEqual(rest, {
      imageBaseName: 'nixos-net-image',
      boot: ['ipxe', 'uefi'],
      ipxe: '/ipxe',
      uefiStub: '/stub',
      firmware: '/firmware',
      uboot: '/u-boot.bin',
      deviceTree: 'broadcom/x.dtb',
      configTxt: 'dtparam=audio=on',
      machines: ['dc:a6:32:01:02:03'],
      silence: ['no-nfs-helper'],
      populateFirmwareCommands: '',
      populateRootCommands: 'mkdir files/srv',
    })
    const plain = parseConfig((await evaluate()).settings, 'the settings')
    for (const name of [
      'boot',
      'deviceTree',
      'firmware',
      'uboot',
      'configTxt',
      'ipxe',
      'uefiStub',
    ]) {
      assert.ok(!(name in plain), name)
    }
    const none = await evaluate({ configuration: '{ netImage.boot = [ ]; }' })
    assert.deepEqual(none.settings['boot'], [])
  })

  const wrong = {
    'root-not-nfs': 'fileSystems."/".fsType = "ext4";',
    'nfs-options-in-device':
      'fileSystems."/".device = "192.168.0.1:/srv/pi,v3"; netImage.nfsRoot = "192.168.0.1:/srv/pi";',
    'nfs-lock': 'fileSystems."/".options = lib.mkForce [ "vers=3" ];',
    'nfs-lock, where the last option takes it back':
      'fileSystems."/".options = lib.mkForce [ "vers=3" "nolock" "lock" ];',
    'nfs-lock, with mount.nfs':
      'boot.initrd.systemd.enable = true; fileSystems."/".options = lib.mkForce [ "vers=3" "local_lock=all" ];',
    'nfsroot-and-fstab':
      'boot.initrd.systemd.enable = true; boot.kernelParams = [ "root=/dev/nfs" ];',
    'no-network-setup': 'boot.initrd.network.enable = false;',
    'no-network-setup, with systemd':
      'boot.initrd.systemd.enable = true; boot.initrd.network.enable = false;',
    'root-not-nfs, with a device of NixOS': 'fileSystems."/".fsType = "tmpfs";',
    'network-torn-down': 'boot.initrd.network.flushBeforeStage2 = true;',
    'machine-id-baked-in': 'environment.etc.machine-id.text = "0123";',
    'machine-id-baked-in, from a file': 'environment.etc.machine-id.source = ./machine-id;',
    'host-keys-baked-in': 'environment.etc."ssh/ssh_host_ed25519_key".source = ./ssh_host_key;',
    'host-keys-baked-in, as a text': 'environment.etc."ssh/ssh_host_ed25519_key".text = "key";',
    'host-keys-baked-in, by sshd':
      'services.openssh.hostKeys = [ { path = ./ssh_host_key; type = "ed25519"; } ];',
  }
  test('local locks are enough if busybox mounts', async () => {
    const options = '[ "vers=3" "local_lock=all" ]'
    const { failing } = await evaluate({
      configuration: `({ lib, ... }: { fileSystems."/".options = lib.mkForce ${options}; })`,
    })
    assert.deepEqual(failing, [])
  })

  for (const [name, lines] of Object.entries(wrong)) {
    const [rule = ''] = name.split(',')
    test(`an assertion tells at evaluation what check would find: ${name}`, async () => {
      const { failing } = await evaluate({ configuration: `({ lib, ... }: { ${lines} })` })
      assert.ok(
        failing.some((message) => message.startsWith(`netImage, ${rule}: `)),
        failing.join(),
      )
      const silenced = await evaluate({
        configuration: `({ lib, ... }: { ${lines} netImage.silence = [ "${rule}" ]; })`,
      })
      assert.ok(!silenced.failing.some((message) => message.includes(rule)))
    })
  }

  test('a root of another type, as in virtual machines, gets no options of NFS', async () => {
    const root = 'fileSystems."/".device = "/dev/vda"; fileSystems."/".fsType = "ext4";'
    const { fileSystems } = await evaluate({ configuration: `{ ${root} }` })
    assert.deepEqual(fileSystems['/']?.options, ['x-initrd.mount'])
    const { failing } = await evaluate({
      configuration: `({ lib, ... }: {
        options.virtualisation.diskImage = lib.mkOption { type = lib.types.str; default = ""; };
        config = {
          ${root}
          # The unit of nixpkgs's virtual machines, since 26.05.
          systemd.services.register-nix-paths = {
            unitConfig.ConditionPathExists = "/nix-path-registration";
            serviceConfig.ExecStart = "/of-the-virtual-machine";
          };
        };
      })`,
    })
    assert.deepEqual(failing, [])
  })

  test('an empty machine-id is allowed', async () => {
    const configuration = '{ environment.etc.machine-id.text = ""; }'
    assert.deepEqual((await evaluate({ configuration })).failing, [])
  })

  test('links from /etc to files that each machine keeps for itself are allowed', async () => {
    const configuration = `{ environment.etc = {
      machine-id.source = "/persist/etc/machine-id";
      "ssh/ssh_host_ed25519_key".source = "/persist/etc/ssh/ssh_host_ed25519_key";
    }; }`
    assert.deepEqual((await evaluate({ configuration })).failing, [])
  })

  test('an nfsRoot without a server is refused', async () => {
    for (const nfsRoot of ['/srv/pi', 'server', 'a b:/srv']) {
      const { failing } = await evaluate({
        configuration: `{ netImage.nfsRoot = "${nfsRoot}"; }`,
      })
      assert.match(failing[0] ?? '', /must have the form server:\/path,options/)
      assert.equal(failing.length, 1, failing.join())
    }
  })
})
