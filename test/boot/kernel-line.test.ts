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
  'the kernel line carries the kernel’s own NFS root only where the system was made for it',
  () => {
    const own = 'root=/dev/nfs nfsroot=10.0.0.5:/srv/pi,v3 ip=dhcp'

    test('not with root=fstab, as systemd stage 1 has it', () => {
      const line = kernelLine(entry(['root=fstab', 'quiet']), nfs, nfsRoot)
      assert.equal(line, 'init=/nix/store/s/init root=fstab quiet')
    })

    test('not where the initrd mounts what the fstab says', () => {
      assert.equal(kernelLine(entry(['quiet']), nfs, nfsRoot), 'init=/nix/store/s/init quiet')
      assert.equal(kernelLine(entry(['quiet']), disk, nfsRoot), 'init=/nix/store/s/init quiet')
    })

    test('where there is no initrd', () => {
      const without = { ...entry(['quiet']), initrd: undefined }
      assert.equal(kernelLine(without, nfs, nfsRoot), `init=/nix/store/s/init quiet ${own}`)
    })

    test('where no fstab names a root', () => {
      assert.equal(kernelLine(entry([]), [], nfsRoot), `init=/nix/store/s/init ${own}`)
    })

    test('only what is missing is added to a line that has root=/dev/nfs', () => {
      const line = kernelLine(entry(['root=/dev/nfs', 'ip=:::::eth0:dhcp']), nfs, nfsRoot)
      assert.equal(
        line,
        'init=/nix/store/s/init root=/dev/nfs ip=:::::eth0:dhcp nfsroot=10.0.0.5:/srv/pi,v3',
      )
    })

    test('in front of what is for init', () => {
      const line = kernelLine(entry(['quiet', '--', 'root=/dev/sda1', 'x'], undefined), [], nfsRoot)
      assert.equal(line, `init=/nix/store/s/init quiet ${own} -- root=/dev/sda1 x`)
    })

    test('by the root that lies over another one', () => {
      const { why } = findRootMount(entry([]), [...disk, ...nfs])
      assert.equal(why, 'the fstab has a root from NFS, which the initrd mounts')
    })

    test('and the reason is told', () => {
      assert.deepEqual(findRootMount(entry(['root=fstab']), nfs), {
        by: 'initrd',
        why: 'the kernel line has root=fstab',
      })
      assert.equal(findRootMount(entry(['root=/dev/sda1', 'root=/dev/nfs']), nfs).by, 'kernel-line')
    })
  },
)
