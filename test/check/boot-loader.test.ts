// Parts that only the installer of a boot loader adds, so a machine that boots over the network
// lacks them.

import { suite, test } from 'node:test'
import { modes, type CpioFile } from '../support/cpio.ts'
import {
  assertFindings,
  findingsOf,
  mountNfs,
  networkd,
  networkModules,
  nfsModules,
  scriptedInitrd,
  systemdInitrd,
  systemdParts,
} from './make-system.ts'

/** The lines of nixpkgs's script that the rule reads. */
const appender = (...names: string[]) =>
  [
    '#!/nix/store/b-bash/bin/bash -e',
    ...(names.length === 0 ? ['exit 0'] : []),
    'tmp=$(mktemp -d ${TMPDIR:-/tmp}/initrd-secrets.XXXXXXXXXX)',
    ...names.flatMap((name) => [
      `mkdir -p $(dirname "$tmp/.initrd-secrets/${name}")`,
      `cp -a /run/keys/x "$tmp/.initrd-secrets/${name}"`,
    ]),
    '',
  ].join('\n')

suite('initrd-secrets-left-out', () => {
  const rule = 'initrd-secrets-left-out'
  const names = ['/etc/ssh/key', '/etc/wg.conf']
  const toplevel = { 'append-initrd-secrets': appender(...names) }

  test('secrets that only an installer appends', async () => {
    for (const parts of [{}, systemdParts]) {
      assertFindings(await findingsOf({ ...parts, toplevel }), {
        rule,
        level: 'warning',
        message: /lacks \/etc\/ssh\/key, \/etc\/wg\.conf of boot\.initrd\.secrets/,
        fix: /boot\.loader\.supportsInitrdSecrets = lib\.mkForce false;/,
        path: /-initrd-test\/initrd$/,
      })
    }
    assertFindings(await findingsOf({ toplevel: { 'append-initrd-secrets': appender() } }))
  })

  test('secrets in the initrd are not reported', async () => {
    const systemd: CpioFile[] = [
      { name: '.initrd-secrets/etc/ssh/key', data: 'a key of an unknown form' },
      { name: '.initrd-secrets/etc/wg.conf', mode: modes.symlink, data: '/nix/store/x-wg.conf' },
    ]
    const common = [...nfsModules, ...networkModules]
    const files = [...common, ...networkd, ...mountNfs, ...systemd]
    const initrd = systemdInitrd({ files })
    assertFindings(await findingsOf({ ...systemdParts, initrd, toplevel }))
    const scripted = ['etc/ssh/key', 'etc/wg.conf'].map((name) => ({
      name: `nix/store/${'0'.repeat(32)}-extra-utils/secrets/${name}`,
    }))
    const script = scriptedInitrd({ files: [...common, ...scripted] })
    assertFindings(await findingsOf({ initrd: script, toplevel }))
    const half = scriptedInitrd({ files: [...common, ...scripted.slice(1)] })
    assertFindings(await findingsOf({ initrd: half, toplevel }), {
      rule,
      level: 'warning',
      message: /lacks \/etc\/ssh\/key of/,
    })
  })
})

suite('hypervisor-left-out', () => {
  const rule = 'hypervisor-left-out'
  const bootspec = (extension: object) => ({
    'boot.json': JSON.stringify({ 'org.nixos.other.v1': {}, ...extension }),
  })

  test('a host of Xen, by nixpkgs’s extension of the bootspec', async () => {
    const xen = { 'org.xenproject.bootspec.v2': { efiPath: '/nix/store/x-xen/boot/xen.efi' } }
    assertFindings(await findingsOf({ toplevel: bootspec(xen) }), {
      rule,
      level: 'warning',
      path: /\/boot\.json$/,
    })
    assertFindings(await findingsOf({ toplevel: bootspec({}) }))
  })
})
