// Overlays that write to the NFS root: the kernel says `filesystem on … not supported as upperdir`.

import { suite, test } from 'node:test'
import type { CpioFile } from '../support/cpio.ts'
import {
  assertFindings,
  findingsOf,
  mountNfs,
  networkd,
  networkModules,
  nfsModules,
  systemdInitrd,
  systemdParts,
  type Content,
} from './make-system.ts'

const rule = 'overlay-on-nfs'
const root = '10.0.0.1:/srv/x / nfs vers=3,nolock 0 0\n'

/** The mount unit that nixpkgs makes for `system.etc.overlay`. */
const etcMount = (options: string): CpioFile => ({
  name: 'nix/store/u-unit-sysroot-etc.mount/sysroot-etc.mount',
  data: `[Mount]\nOptions=relatime,lowerdir=/run/nixos-etc-metadata::/etc-basedir,${options}\nType=overlay\nWhat=overlay\nWhere=/sysroot/etc\n`,
})
const writable = 'rw,upperdir=/sysroot/.rw-etc/upper,workdir=/sysroot/.rw-etc/work'

async function withUnit(unit: CpioFile, fstab = root) {
  const files = [...nfsModules, ...networkModules, ...networkd, ...mountNfs, unit]
  return await findingsOf({ ...systemdParts, fstab, initrd: systemdInitrd({ files }) })
}

suite(rule, () => {
  test('/etc of stage 1, if programs may write to it', async () => {
    assertFindings(await withUnit(etcMount(writable)), {
      rule,
      message:
        /^\/etc is an overlay that writes to \/\.rw-etc\/upper, which is on NFS \(10\.0\.0\.1/,
      fix: /^system\.etc\.overlay\.mutable = false;[^]*"\/\.rw-etc"/,
      path: /-initrd-test\/initrd$/,
    })
    assertFindings(await withUnit(etcMount('ro')))
    const tmpfs = `${root}tmpfs /.rw-etc tmpfs x-initrd.mount 0 0\n`
    assertFindings(await withUnit(etcMount(writable), tmpfs))
    // In the memory of the initrd.
    assertFindings(await withUnit(etcMount('upperdir=/run/upper,workdir=/run/work')))
  })

  test('overlays of the fstab', async () => {
    const overlay = (options: string, mountPoint = '/var') =>
      `${root}overlay ${mountPoint} overlay lowerdir=/a,upperdir=/over/up,workdir=/over/work${options} 0 0\n`
    assertFindings(await findingsOf({ fstab: overlay('') }), {
      rule,
      message: /^\/var is an overlay that writes to \/over\/up/,
      fix: /fileSystems\."\/over" = \{/,
      path: /\/etc\/fstab$/,
    })
    assertFindings(await findingsOf({ fstab: overlay(',nofail') }), { rule, level: 'warning' })
    assertFindings(await findingsOf({ fstab: overlay(',noauto') }))
    for (const type of ['tmpfs /over tmpfs rw', '/dev/sda1 /over ext4 rw']) {
      assertFindings(await findingsOf({ fstab: `${overlay('')}${type} 0 0\n` }))
    }
    // A bind mount is on the file system of its source.
    const bind = `${overlay('')}/dev/sda1 /disk ext4 rw 0 0\n/disk/x /over none bind 0 0\n`
    assertFindings(await findingsOf({ fstab: bind }))
    assertFindings(await findingsOf({ fstab: `${overlay('')}/x /over none bind 0 0\n` }), { rule })
  })

  test('overlays of units in stage 2', async () => {
    const system = (unit: string): Record<string, Content> => ({ system: { 'var.mount': unit } })
    const unit = '[Mount]\nType=overlay\nWhere=/var\nOptions=lowerdir=/a,upperdir=/b/up\n'
    assertFindings(await findingsOf({ etc: { systemd: system(unit) } }), {
      rule,
      level: 'warning',
      path: /\/etc\/systemd\/system\/var\.mount$/,
    })
    const other = unit.replace('Type=overlay', 'Type=tmpfs')
    assertFindings(await findingsOf({ etc: { systemd: system(other) } }))
  })

  test('layers of containers', async () => {
    const etc = { systemd: { system: { 'docker.service': '[Service]\n' } } }
    assertFindings(await findingsOf({ etc }), {
      rule,
      level: 'warning',
      message: /docker\.service keeps the layers of its containers in \/var\/lib\/docker/,
      fix: /fileSystems\."\/var\/lib\/docker"/,
    })
    const fstab = `${root}/dev/sda1 /var/lib ext4 rw 0 0\n`
    assertFindings(await findingsOf({ etc, fstab }))
  })
})
