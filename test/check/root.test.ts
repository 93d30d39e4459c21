import { suite, test } from 'node:test'
import { assertFindings, findingsOf, systemdParts } from './make-system.ts'

const nfsRoot = '192.168.0.108:/srv/nixos,v3'
const device = '192.168.0.108:/srv/nixos'

test('nothing is found in a complete system, with any stage 1', async () => {
  for (const parts of [{}, systemdParts]) {
    assertFindings(await findingsOf(parts))
    assertFindings(await findingsOf(parts, { nfsRoot }))
  }
})

suite('root-not-nfs', () => {
  const rule = 'root-not-nfs'

  test('a root from a disk', async () => {
    const findings = await findingsOf({ fstab: '/dev/sda1 / ext4 defaults 0 1\n' }, { nfsRoot })
    assertFindings(findings, {
      rule,
      message: /\/dev\/sda1 \(ext4\)/,
      fix: /device = "192\.168\.0\.108:\/srv\/nixos";\n {2}fsType = "nfs";\n {2}options = \[ "vers=3"/,
      path: /-nixos-system-test\/etc\/fstab$/,
    })
  })

  test('no root at all, with root=fstab', async () => {
    assertFindings(await findingsOf({ ...systemdParts, fstab: '' }), {
      rule,
      message: /names no root/,
    })
  })

  test('a root from a disk, with root=/dev/nfs, which NixOS’s script ignores', async () => {
    const kernelParams = ['root=/dev/nfs', `nfsroot=${nfsRoot}`, 'ip=dhcp']
    const fstab = '/dev/disk/by-label/NIXOS_SD / ext4 defaults 0 1\n'
    assertFindings(await findingsOf({ kernelParams, fstab }), { rule, message: /NIXOS_SD/ })
    // Without an initrd the kernel mounts the root.
    const builtin = [
      'kernel/fs/nfs/nfs.ko',
      'kernel/fs/nfs/nfsv3.ko',
      'kernel/drivers/net/ethernet/x.ko',
    ]
    assertFindings(await findingsOf({ kernelParams, fstab, builtin, initrd: undefined }))
  })

  test('a separate store from a disk: the fix names its mount point', async () => {
    const fstab = 'tmpfs / tmpfs mode=755 0 0\n/dev/sda1 /nix/store ext4 rw 0 0\n'
    assertFindings(await findingsOf({ fstab }), { rule, fix: /fileSystems\."\/nix\/store" = / })
  })

  test('another root on the kernel line, which systemd mounts and the script ignores', async () => {
    const kernelParams = ['root=LABEL=nixos']
    assertFindings(await findingsOf({ ...systemdParts, kernelParams }), {
      rule,
      message: /root=LABEL=nixos/,
    })
    assertFindings(await findingsOf({ kernelParams }))
  })

  test('a separate store over NFS is enough, also under an overlay', async () => {
    const tmpfs = 'tmpfs / tmpfs mode=755 0 0\n'
    const store = `${device} /nix/store nfs vers=3,nolock 0 0\n`
    assertFindings(await findingsOf({ fstab: tmpfs + store }))
    const overlay = `overlay / overlay lowerdir=/lower 0 0\n${device} /lower nfs ro,nolock 0 0\n`
    assertFindings(await findingsOf({ fstab: overlay }))
    const bound = `${tmpfs}${device} /persist nfs vers=3,nolock 0 0\n/persist/nix /nix none bind 0 0\n`
    assertFindings(await findingsOf({ fstab: bound }))
    const disk = `${tmpfs}/dev/sda1 /persist ext4 rw 0 0\n/persist/nix /nix none bind 0 0\n`
    assertFindings(await findingsOf({ fstab: disk }), { rule, message: /\/persist is mounted/ })
  })

  test('the NFS layer of an overlay is checked like any root', async () => {
    const fstab = [
      'tmpfs / tmpfs mode=755 0 0',
      `${device} /nix/.ro-store nfs vers=3 0 0`,
      'tmpfs /nix/.rw-store tmpfs mode=755 0 0',
      'overlay /nix/store overlay lowerdir=/mnt-root/nix/.ro-store,upperdir=/mnt-root/nix/.rw-store/s 0 0',
    ].join('\n')
    assertFindings(await findingsOf({ fstab }, { nfsRoot }), {
      rule: 'nfs-lock',
      message: /\/nix\/\.ro-store is mounted/,
    })
  })

  test('a root that the kernel line mounts needs no fstab', async () => {
    assertFindings(await findingsOf({ fstab: '' }, { nfsRoot }))
    assertFindings(await findingsOf({ fstab: '', kernelParams: ['root=/dev/nfs'] }, { nfsRoot }))
  })
})

suite('root-mismatch', () => {
  const rule = 'root-mismatch'

  test('another path, or another server', async () => {
    for (const other of ['192.168.0.108:/srv/other,v3', '192.168.0.1:/srv/nixos,v3']) {
      assertFindings(await findingsOf({}, { nfsRoot: other }), {
        rule,
        message: /mounts 192\.168\.0\.108:\/srv\/nixos \(the fstab\), but nfsRoot is 192/,
        fix: /--nfs-root 192\.168\.0\.108:\/srv\/nixos,v3\n/,
      })
    }
  })

  test('another nfsroot= on the kernel line', async () => {
    const kernelParams = ['root=/dev/nfs', 'nfsroot=10.0.0.1:/x,v4']
    assertFindings(
      await findingsOf({ kernelParams, fstab: '' }, { nfsRoot: '10.0.0.2:/x,v4' }),
      {
        rule: 'root-mismatch',
        message: /nfsroot= of the kernel line/,
      },
      {
        rule: 'no-nfs-client',
        message: /nfsv4/,
      },
    )
  })

  test('a separate store is a part of the root tree', async () => {
    const tmpfs = 'tmpfs / tmpfs mode=755 0 0\n'
    const mount = (path: string) =>
      `${tmpfs}192.168.0.108:${path} /nix/store nfs vers=3,nolock 0 0\n`
    assertFindings(await findingsOf({ fstab: mount('/srv/nixos/nix/store') }, { nfsRoot }))
    assertFindings(await findingsOf({ fstab: mount('/srv/other/nix/store') }, { nfsRoot }), {
      rule,
      message: /192\.168\.0\.108:\/srv\/other \(the fstab\)/,
      fix: /fileSystems\."\/nix\/store" = \{\n {2}device = "192\.168\.0\.108:\/srv\/nixos\/nix\/store";/,
    })
    // The fstab does not tell which root tree has this store.
    assertFindings(await findingsOf({ fstab: mount('/srv/store') }, { nfsRoot }))
  })

  test('options that move the root', async () => {
    const moved = (options: string) => `${device} / nfs vers=3,nolock,${options} 0 0\n`
    const fstab = moved('X-mount.subdir=machines/a')
    assertFindings(await findingsOf({ fstab }, { nfsRoot }), {
      rule,
      message: /mounts 192\.168\.0\.108:\/srv\/nixos\/machines\/a \(the fstab\)/,
    })
    const whole = '192.168.0.108:/srv/nixos/machines/a,v3'
    assertFindings(await findingsOf({ fstab }, { nfsRoot: whole }))
    // busybox passes addr= to the kernel; mount.nfs replaces it by the server of the device.
    const elsewhere = moved('addr=192.168.0.9')
    assertFindings(await findingsOf({ fstab: elsewhere }, { nfsRoot }), {
      rule,
      message: /mounts 192\.168\.0\.9:\/srv\/nixos/,
    })
    assertFindings(await findingsOf({ ...systemdParts, fstab: elsewhere }, { nfsRoot }))
  })

  test('nothing is found if both may be the same root', async () => {
    const same = ['192.168.0.108:/srv/nixos/,v4', '/srv/nixos', 'server.example:/srv/nixos,v3']
    for (const nfsRoot of same) assertFindings(await findingsOf({}, { nfsRoot }))
    const fstab = '[fd66::1]:/srv / nfs vers=3,nolock 0 0\n'
    assertFindings(await findingsOf({ ...systemdParts, fstab }, { nfsRoot: '[fd66::1]:/srv,v3' }))
  })
})

suite('nfs-options-in-device', () => {
  const rule = 'nfs-options-in-device'

  test('options of nfsroot= in a device', async () => {
    const fstab = `${device},v3 / nfs nolock 0 0\n${device}/boot,nolock,tcp /boot nfs4 x-initrd.mount 0 0\n`
    assertFindings(
      await findingsOf({ fstab }, { nfsRoot }),
      {
        rule,
        message: /device of \/ is .*,v3/,
        fix: /device = "192\.168\.0\.108:\/srv\/nixos";\n.*\n {2}options = \[ "vers=3" "nolock" \];/,
      },
      {
        rule,
        fix: /fileSystems\."\/boot".*\n.*\n {2}fsType = "nfs4";\n {2}options = \[ "nolock" "tcp" \];/,
      },
    )
  })

  test('a comma that belongs to the path', async () => {
    const fstab = '192.168.0.108:/srv/a,b/nixos / nfs vers=3,nolock 0 0\n'
    assertFindings(await findingsOf({ fstab }))
  })
})

suite('nfsroot-and-fstab', () => {
  const rule = 'nfsroot-and-fstab'

  test('both ways on one kernel line', async () => {
    for (const params of [['root=/dev/nfs'], ['nfsroot=192.168.0.108:/srv/nixos,v3']]) {
      for (const kernelParams of [
        ['root=fstab', ...params],
        [...params, 'root=fstab'],
      ]) {
        assertFindings(await findingsOf({ ...systemdParts, kernelParams }, { nfsRoot }), {
          rule,
          level: 'warning',
          message: /both root=fstab and/,
        })
      }
    }
  })

  test('only in a specialisation', async () => {
    const kernelParams = ['root=fstab', 'nfsroot=/x']
    const specialisations = { rescue: { kernelParams }, debug: {} }
    assertFindings(await findingsOf({ ...systemdParts, specialisations }), {
      rule,
      level: 'warning',
      message: /^in the specialisation rescue: /,
    })
  })

  test('both ways, but the root of the fstab is a disk', async () => {
    const kernelParams = ['root=fstab', 'root=/dev/nfs', 'nfsroot=192.168.0.108:/srv/nixos']
    assertFindings(
      await findingsOf({ ...systemdParts, kernelParams, fstab: '/dev/sda1 / ext4 rw 0 0\n' }),
      { rule: 'root-not-nfs', message: /\/dev\/sda1/ },
      { rule, level: 'warning' },
    )
  })
})

test('the fix for a root over IPv6 names the protocol', async () => {
  const findings = await findingsOf(
    { fstab: '/dev/sda1 / ext4 rw 0 0\n' },
    { nfsRoot: '[fd00::1]:/srv/nixos,v4.2' },
  )
  assertFindings(findings, {
    rule: 'root-not-nfs',
    fix: /device = "\[fd00::1\]:\/srv\/nixos";\n.*\n {2}options = \[ "vers=4\.2" "proto=tcp6" \]/,
  })
})

suite('nfs-lock', () => {
  const rule = 'nfs-lock'

  test('version 3 without nolock', async () => {
    const each = ['', ',proto=tcp', ',local_lock=posix', ',local_lock=flock', ',nolock,lock']
    for (const options of each) {
      const fstab = `${device} / nfs nfsvers=3${options} 0 0\n`
      assertFindings(await findingsOf({ fstab }), { rule, fix: /"nfsvers=3".* "nolock" \];/ })
    }
  })

  test('no version, if the mounting program begins with version 3', async () => {
    const fstab = `${device} / nfs rw 0 0\n`
    const fix = /\[ "vers=3" "rw" "nolock" \];/
    // busybox, and mount.nfs without a module of version 4.
    assertFindings(await findingsOf({ fstab }), { rule, fix })
    assertFindings(await findingsOf({ ...systemdParts, fstab }), { rule, fix })
    const builtin = ['kernel/fs/nfs/nfsv4.ko']
    assertFindings(await findingsOf({ ...systemdParts, builtin, fstab }))
    assertFindings(await findingsOf({ fstab, initrd: undefined, builtin: undefined }))
  })

  test('local locks, which are enough for busybox and not for mount.nfs', async () => {
    const fstab = `${device} / nfs vers=3,local_lock=all 0 0\n`
    assertFindings(await findingsOf({ fstab }))
    assertFindings(await findingsOf({ ...systemdParts, fstab }), { rule })
  })

  test('nothing is found for locks of version 4, or without locks', async () => {
    const builtin = ['kernel/fs/nfs/nfsv4.ko']
    for (const options of ['vers=3,nolock', 'vers=4.2']) {
      const fstab = `${device} / nfs ${options} 0 0\n`
      assertFindings(await findingsOf({ ...systemdParts, builtin, fstab }))
    }
  })
})
