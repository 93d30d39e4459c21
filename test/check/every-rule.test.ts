// For each rule there is a system that breaks only this rule. Without the rule nothing is found.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkSystem } from '../../src/check/check-system.ts'
import { rules } from '../../src/check/rules.ts'
import { runProgram } from '../support/real-nix.ts'
import {
  assertFindings,
  clientName,
  makeCheckInput,
  mountProgram,
  networkModules,
  networkUnit,
  networkd,
  nfsModules,
  scriptedInitrd,
  stage1Script,
  systemdInitrd,
  systemdParts,
  treeFile,
  type ImageParts,
  type SystemParts,
} from './make-system.ts'

type Broken = { system?: Partial<SystemParts>; image?: ImageParts }

const piTree = { 'config.txt': '', 'bcm2712-rpi-5-b.dtb': 1 }
const pi5 = {
  builtin: ['macb', 'pcie-brcmstb', 'clk-rp1', 'rp1'].map((name) => `kernel/drivers/${name}.ko`),
}
const pi4 = { builtin: ['kernel/genet.ko', 'kernel/bcm-phy-lib.ko'] }
const withoutNetwork = stage1Script.replace(/^.*udhcpc.*$/m, '')

const brokenSystems: Record<string, Broken> = {
  'root-not-nfs': { system: { fstab: '/dev/sda1 / ext4 defaults 0 1\n' } },
  'root-mismatch': { image: { nfsRoot: '192.168.0.108:/srv/other' } },
  'nfs-options-in-device': {
    system: { fstab: '192.168.0.108:/srv/nixos,v3 / nfs nolock 0 0\n' },
  },
  'nfsroot-and-fstab': {
    system: { ...systemdParts, kernelParams: ['root=fstab', 'nfsroot=192.168.0.108:/srv/nixos'] },
  },
  'nfs-lock': { system: { fstab: '192.168.0.108:/srv/nixos / nfs vers=3 0 0\n' } },
  'nfsroot-misread': { system: { fstab: '192.168.0.108:/%s / nfs vers=3,nolock 0 0\n' } },
  'overlay-on-nfs': {
    system: {
      fstab:
        '192.168.0.108:/srv / nfs nolock 0 0\no /var overlay lowerdir=/a,upperdir=/b,workdir=/c 0 0\n',
    },
  },
  'kernel-line-too-long': { system: { kernelParams: ['x'.repeat(2047)] } },
  'initrd-secrets-left-out': {
    system: {
      toplevel: { 'append-initrd-secrets': 'cp -a /keys/x "$tmp/.initrd-secrets//etc/x"\n' },
    },
  },
  'hypervisor-left-out': {
    system: { toplevel: { 'boot.json': '{"org.xenproject.bootspec.v1":{}}' } },
  },
  'broken-initrd': { system: { initrd: scriptedInitrd().subarray(0, -600) } },
  'unknown-initrd-compression': {
    system: { initrd: Buffer.from('02214c1800000000', 'hex') },
  },
  'no-nfs-client': { system: { initrd: scriptedInitrd({ files: networkModules }) } },
  'no-nfs-helper': {
    system: {
      ...systemdParts,
      initrd: systemdInitrd({ files: [...nfsModules, ...networkModules, ...networkd] }),
    },
  },
  'no-nfs-protocols': {
    system: {
      ...systemdParts,
      initrd: systemdInitrd({
        files: [...nfsModules, ...networkModules, ...networkd, ...mountProgram],
      }),
    },
  },
  'nfs4-client-names': {
    system: {
      fstab: '192.168.0.108:/srv/nixos / nfs vers=4.2 0 0\n',
      builtin: ['kernel/fs/nfs/nfsv4.ko'],
      initrd: scriptedInitrd({ script: stage1Script.replace(clientName, '') }),
    },
  },
  'no-network-driver': { system: { initrd: scriptedInitrd({ files: nfsModules }) } },
  'no-network-setup': { system: { initrd: scriptedInitrd({ script: withoutNetwork }) } },
  'network-torn-down': {
    system: {
      ...systemdParts,
      initrd: systemdInitrd({ network: `${networkUnit}KeepConfiguration=no\n` }),
    },
  },
  'missing-kernel-file': { image: { boot: { 'boot.ipxe': '#!ipxe\nkernel gone\n' } } },
  'missing-device-tree': { image: { boot: { 'config.txt': '' } } },
  'missing-firmware-file': {
    system: pi4,
    image: { boot: { 'config.txt': '', 'bcm2711-rpi-4-b.dtb': 1 } },
  },
  'uboot-without-ipxe': {
    system: pi5,
    image: { boot: { ...piTree, 'config.txt': 'kernel=u-boot.bin\n', 'u-boot.bin': 1 } },
  },
  'file-too-large-for-loader': {
    system: pi5,
    image: { boot: { ...piTree, 'config.txt': 'kernel=big\n', big: 97_000_000 } },
  },
  'secrets-in-store': { system: { paths: { netrc: 'machine cache login a password b\n' } } },
  'host-keys-baked-in': { image: { rootFiles: [treeFile('etc/ssh/ssh_host_rsa_key', 400)] } },
  'machine-id-baked-in': { image: { rootFiles: [treeFile('etc/machine-id', 33)] } },
  'no-registration': { system: { paths: { 'local-cmds': '# nothing\n' } } },
}

test('for each rule there is a system that breaks it', () => {
  const names = rules.map(({ name }) => name)
  assert.deepEqual(Object.keys(brokenSystems).toSorted(), names.toSorted())
})

test('Nix can evaluate each fix that is a configuration', async () => {
  const fixes: string[] = []
  for (const { system, image } of Object.values(brokenSystems)) {
    for (const { fix } of await checkSystem(await makeCheckInput(system, image))) fixes.push(fix)
  }
  const configurations = fixes.filter((fix) => /^(?:#.*\n)*[a-z][\w.]*\.\S+ = /i.test(fix))
  assert.ok(configurations.length > 12)
  const modules = configurations.map((fix) => `({ config, lib, pkgs, ... }: {\n${fix}\n})`)
  await runProgram('nix-instantiate', ['--parse', '--expr', `[\n${modules.join('\n')}\n]`])
})

for (const { name: rule, level } of rules) {
  test(`only ${rule} finds its system`, async () => {
    const { system, image } = brokenSystems[rule] ?? {}
    const input = await makeCheckInput(system, image)
    assertFindings(await checkSystem(input), { rule, level })
    assertFindings(await checkSystem({ ...input, silenced: [rule] }))
  })
}
