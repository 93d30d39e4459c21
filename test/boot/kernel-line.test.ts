import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { findRootMount, kernelLine } from '../../src/boot/kernel-line.ts'
import { parseFstab } from '../../src/nixos/fstab.ts'
import { parseNfsRoot } from '../../src/nixos/nfs-root.ts'
import type { BootEntry } from '../../src/nixos/system.ts'

const nfsRoot = parseNfsRoot('10.0.0.5:/srv/pi,v3')
const nfs = parseFstab('10.0.0.5:/srv/pi / nfs vers=3,nolock 0 0\n')
const disk = parseFstab('/dev/sda1 / ext4 defaults 0 1\n')

function entry(params: string[], initrd: string | undefined = '/nix/store/i/initrd'): BootEntry {
  return { label: 'x', kernel: '/k', initrd, init: '/nix/store/s/init', kernelParams: params }
}

suite(
  'the kernel line makes the kernel mount an NFS root only if no initrd mounts the root:',
  () => {
    const own = 'root=/dev/nfs nfsroot=10.0.0.5:/srv/pi,v3 ip=dhcp'

    test('not with root=fstab, which systemd’s stage 1 uses', () => {
      const line = kernelLine(entry(['root=fstab', 'quiet']), nfs, nfsRoot)
      assert.equal(line, 'init=/nix/store/s/init root=fstab quiet')
    })

    test('not if the initrd mounts the root of the fstab', () => {
      assert.equal(kernelLine(entry(['quiet']), nfs, nfsRoot), 'init=/nix/store/s/init quiet')
      assert.equal(kernelLine(entry(['quiet']), disk, nfsRoot), 'init=/nix/store/s/init quiet')
    })

    test('if there is no initrd', () => {
      const without = { ...entry(['quiet']), initrd: undefined }
      assert.equal(kernelLine(without, nfs, nfsRoot), `init=/nix/store/s/init quiet ${own}`)
    })

    test('if no fstab names a root', () => {
      assert.equal(kernelLine(entry([]), [], nfsRoot), `init=/nix/store/s/init ${own}`)
    })

    test('only missing parameters are added to a line with root=/dev/nfs', () => {
      const line = kernelLine(entry(['root=/dev/nfs', 'ip=:::::eth0:dhcp']), nfs, nfsRoot)
      assert.equal(
        line,
        'init=/nix/store/s/init root=/dev/nfs ip=:::::eth0:dhcp nfsroot=10.0.0.5:/srv/pi,v3',
      )
    })

    test('before the words for init', () => {
      const line = kernelLine(entry(['quiet', '--', 'root=/dev/sda1', 'x'], undefined), [], nfsRoot)
      assert.equal(line, `init=/nix/store/s/init quiet ${own} -- root=/dev/sda1 x`)
    })

    test('of two roots in the fstab, the last counts', () => {
      const { why } = findRootMount(entry([]), [...disk, ...nfs])
      assert.equal(why, 'the fstab has a root from NFS, which the initrd mounts')
    })

    test('with the reason', () => {
      assert.deepEqual(findRootMount(entry(['root=fstab']), nfs), {
        by: 'initrd',
        why: 'the kernel line has root=fstab',
      })
      assert.equal(findRootMount(entry(['root=/dev/sda1', 'root=/dev/nfs']), nfs).by, 'kernel-line')
    })
  },
)
