import { suite, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { cpioArchive, modes, type CpioFile } from '../support/cpio.ts'
import {
  assertFindings,
  clientName,
  findingsOf,
  moduleFiles,
  mountNfs,
  mountProgram,
  networkd,
  networkModules,
  nfsModules,
  protocolFiles,
  scriptedInitrd,
  stage1Script,
  systemdInitrd,
  systemdParts,
} from './make-system.ts'

const path = /-initrd-test\/initrd$/

suite('broken-initrd and unknown-initrd-compression', () => {
  test('an initrd that cannot be unpacked: there are no other findings', async () => {
    for (const initrd of [Buffer.from('initrd\n'), gzipSync(scriptedInitrd()).subarray(0, 300)]) {
      assertFindings(await findingsOf({ initrd }), { rule: 'broken-initrd', path })
    }
  })

  test('an initrd that only the kernel can unpack', async () => {
    const initrd = Buffer.from('\x02\x21\x4c\x18', 'latin1')
    assertFindings(await findingsOf({ initrd }), {
      rule: 'unknown-initrd-compression',
      level: 'note',
      message: /lz4/,
      fix: /boot\.initrd\.compressor = "zstd"/,
    })
  })

  test('an initrd that specialisations share is reported once', async () => {
    const specialisations = { a: {}, b: { initrd: Buffer.from('other') } }
    assertFindings(
      await findingsOf({ initrd: Buffer.from('junk'), specialisations }),
      { rule: 'broken-initrd', message: /^the initrd/ },
      { rule: 'broken-initrd', message: /^in the specialisation b: / },
    )
  })
})

suite('no-nfs-client', () => {
  const rule = 'no-nfs-client'

  test('nfs without the module of the version', async () => {
    const initrd = scriptedInitrd({ files: [...moduleFiles('fs/nfs/nfs.ko'), ...networkModules] })
    assertFindings(await findingsOf({ initrd }), {
      rule,
      message: /the module nfsv3 is neither/,
      fix: /boot\.initrd\.kernelModules = \[ "nfsv3" \];/,
      path,
    })
  })

  test('version 4, by options or by type', async () => {
    for (const root of ['nfs vers=4.2', 'nfs4 defaults', 'nfs nfsvers=4']) {
      assertFindings(await findingsOf({ fstab: `10.0.0.1:/x / ${root} 0 0\n` }), {
        rule,
        message: /nfsv4/,
      })
    }
  })

  test('no module at all', async () => {
    const initrd = scriptedInitrd({ files: networkModules })
    assertFindings(await findingsOf({ initrd }), { rule, message: /nfs and nfsv3 are/ })
    const fstab = '10.0.0.1:/x / nfs nolock 0 0\n'
    assertFindings(await findingsOf({ initrd, fstab }), { rule, message: /nfs and nfsv3 are/ })
  })

  test('no named version, and no module for the version that the mounting program tries first', async () => {
    const files = [...moduleFiles('fs/nfs/nfs.ko', 'fs/nfs/nfsv4.ko'), ...networkModules]
    const fstab = '10.0.0.1:/x / nfs nolock 0 0\n'
    assertFindings(await findingsOf({ initrd: scriptedInitrd({ files }), fstab }), {
      rule,
      message: /the module nfsv3 is neither/,
    })
    const withHelper = systemdInitrd({ files: [...files, ...networkd, ...mountNfs] })
    assertFindings(await findingsOf({ ...systemdParts, initrd: withHelper, fstab }))
  })

  test('no initrd, and a kernel without a client', async () => {
    const builtin = ['kernel/drivers/net/ethernet/x.ko']
    assertFindings(await findingsOf({ initrd: undefined, builtin }, { nfsRoot: '/x,v3' }), {
      rule,
      message: /no initrd/,
      path: /-linux\/image$/,
    })
  })

  test('built-in modules count; without a list of them nothing is found', async () => {
    const initrd = scriptedInitrd({ files: networkModules })
    const builtin = ['kernel/fs/nfs/nfs.ko', 'kernel/fs/nfs/nfsv3.ko']
    assertFindings(await findingsOf({ initrd, builtin }))
    assertFindings(await findingsOf({ initrd, builtin: undefined }))
    const drivers = [...builtin, 'kernel/drivers/net/virtio_net.ko']
    assertFindings(await findingsOf({ initrd: undefined, builtin: drivers }, { nfsRoot: '/x,v3' }))
  })
})

suite('no-nfs-helper', () => {
  const rule = 'no-nfs-helper'

  test('systemd without mount.nfs, even with busybox', async () => {
    const busybox = { name: 'bin/busybox', mode: modes.program }
    const files = [...nfsModules, ...networkModules, ...networkd, busybox]
    assertFindings(await findingsOf({ ...systemdParts, initrd: systemdInitrd({ files }) }), {
      rule,
      message: /has no mount\.nfs in \/sbin:/,
      fix: /boot\.initrd\.systemd\.initrdBin = \[/,
      path,
    })
  })

  test('mount.nfs in /bin, which systemd’s mount does not search', async () => {
    const bin: CpioFile[] = [
      { name: 'bin', mode: modes.symlink, data: '/nix/store/b-initrd-bin-env/bin' },
      { name: 'nix/store/b-initrd-bin-env/bin/mount.nfs', mode: modes.program },
    ]
    const sbin = (data: string) => [{ name: 'sbin', mode: modes.symlink, data }]
    const found = async (...more: CpioFile[]) => {
      const rest = [...nfsModules, ...networkModules, ...networkd, ...protocolFiles]
      const initrd = systemdInitrd({ files: [...rest, ...bin, ...more] })
      return await findingsOf({ ...systemdParts, initrd })
    }
    // In nixpkgs 24.05, /sbin is another folder.
    const message =
      /has \/nix\/store\/b-initrd-bin-env\/bin\/mount\.nfs, but not in \/sbin: .* looks only there/
    const unfound = { rule, message, path }
    assertFindings(await found(), unfound)
    assertFindings(await found(...sbin('/nix/store/b-initrd-bin-env/sbin')), unfound)
    assertFindings(await found({ name: 'sbin/mount.ext4', mode: modes.program }), unfound)
    // /sbin may lead to /bin.
    assertFindings(await found(...sbin('bin')))
    assertFindings(await found(...sbin('/nix/store/b-initrd-bin-env/bin')))
  })

  test('no program is needed if the options have the server’s address', async () => {
    const files = [...nfsModules, ...networkModules, ...networkd]
    const fstab = '10.0.0.1:/x / nfs vers=3,nolock,addr=10.0.0.1 0 0\n'
    assertFindings(await findingsOf({ ...systemdParts, fstab, initrd: systemdInitrd({ files }) }))
  })

  test('a script without a program that mounts NFS', async () => {
    const init = { name: 'init', mode: modes.program, data: stage1Script }
    const initrd = cpioArchive([init, ...nfsModules, ...networkModules])
    assertFindings(await findingsOf({ initrd }), { rule, fix: /extraUtilsCommands/ })
    const withHelper = cpioArchive([init, ...nfsModules, ...networkModules, ...mountNfs])
    assertFindings(await findingsOf({ initrd: withHelper }))
  })
})

suite('no-nfs-protocols', () => {
  const rule = 'no-nfs-protocols'
  const only = (...files: CpioFile[]) =>
    systemdInitrd({
      files: [...nfsModules, ...networkModules, ...networkd, ...mountProgram, ...files],
    })
  const without = async (options: string, ...files: CpioFile[]) => {
    const fstab = `10.0.0.1:/x / nfs ${options} 0 0\n`
    const builtin = ['kernel/fs/nfs/nfsv4.ko']
    return await findingsOf({ ...systemdParts, initrd: only(...files), fstab, builtin })
  }

  test('version 3, or a protocol by its name', async () => {
    assertFindings(await without('vers=3,nolock'), {
      rule,
      message: /version 3 of NFS needs this: \/etc\/netconfig and \/etc\/protocols are missing/,
      fix: /"\/etc\/netconfig"\.source = "\$\{pkgs\.libtirpc\}\/etc\/netconfig";/,
      path,
    })
    assertFindings(await without('vers=4.2,proto=tcp'), {
      rule,
      message: /option proto=tcp needs this/,
    })
  })

  test('both files are needed', async () => {
    for (const [index, name] of ['protocols', 'netconfig'].entries()) {
      const files = protocolFiles.slice(index, index + 1)
      assertFindings(await without('vers=3,nolock', ...files), {
        rule,
        message: new RegExp(`: /etc/${name} is missing`),
      })
    }
    assertFindings(await without('vers=3,nolock', ...protocolFiles))
  })

  test('version 4 looks up no protocol', async () => {
    assertFindings(await without('vers=4.2'))
  })
})

suite('nfs4-client-names', () => {
  const rule = 'nfs4-client-names'
  const builtin = ['kernel/fs/nfs/nfsv4.ko']
  const rootOf = (options: string) => `10.0.0.1:/x / nfs ${options} 0 0\n`
  const nameless = scriptedInitrd({ script: stage1Script.replace(clientName, '') })

  test('version 4 with a script that sets no name', async () => {
    for (const options of ['vers=4.2', 'nfsvers=4', 'v4.1']) {
      assertFindings(await findingsOf({ initrd: nameless, builtin, fstab: rootOf(options) }), {
        rule,
        level: 'warning',
        fix: /^boot\.initrd\.postDeviceCommands = ''\n {2}cat .*nfs4_unique_id\n'';$/,
        path,
      })
      assertFindings(await findingsOf({ builtin, fstab: rootOf(options) }))
    }
    // Without a named version, busybox mounts with version 3.
    assertFindings(await findingsOf({ initrd: nameless, builtin, fstab: rootOf('nolock') }))
  })

  test('systemd, whose mount.nfs prefers version 4', async () => {
    const initrd = systemdInitrd({ service: 'true' })
    for (const options of ['vers=4.2', 'rw']) {
      assertFindings(
        await findingsOf({ ...systemdParts, initrd, builtin, fstab: rootOf(options) }),
        { rule, level: 'warning', fix: /services\.nfs4-client-name = \{[^]*before = \[ "sysroot/ },
      )
    }
    assertFindings(await findingsOf({ ...systemdParts, initrd, fstab: rootOf('vers=3,nolock') }))
    const service = 'echo $(hostid) > /sys/fs/nfs/net/nfs_client/identifier'
    const named = systemdInitrd({ service })
    assertFindings(
      await findingsOf({ ...systemdParts, initrd: named, builtin, fstab: rootOf('vers=4.2') }),
    )
  })

  test('nothing is found if the kernel mounts the root, because it has a name', async () => {
    const kernelParams = ['root=/dev/nfs', 'ip=dhcp', 'nfsroot=10.0.0.1:/x,v4']
    assertFindings(
      await findingsOf(
        { kernelParams, fstab: '', initrd: nameless, builtin },
        { nfsRoot: '10.0.0.1:/x,v4' },
      ),
    )
  })
})

suite('no-network-driver', () => {
  const rule = 'no-network-driver'
  const only = (...files: string[]) =>
    scriptedInitrd({ files: [...nfsModules, ...moduleFiles(...files)] })

  test('no driver of any network interface', async () => {
    const initrd = only('drivers/net/mii.ko', 'drivers/net/wireless/ath/ath9k/ath9k.ko')
    assertFindings(await findingsOf({ initrd }), {
      rule,
      fix: /boot\.initrd\.availableKernelModules = \[ "e1000e"/,
      path,
    })
  })

  test('one driver of any kind is enough, in the initrd or in the kernel', async () => {
    for (const file of [
      'drivers/net/virtio_net.ko.zst',
      'drivers/net/usb/r8152.ko',
      'drivers/net/hyperv/hv_netvsc.ko',
      'drivers/net/xen-netfront.ko',
      'drivers/usb/gadget/function/u_ether.ko',
      'drivers/infiniband/ulp/ipoib/ib_ipoib.ko',
    ]) {
      assertFindings(await findingsOf({ initrd: only(file) }))
    }
    const builtin = ['kernel/drivers/net/ethernet/realtek/r8169.ko']
    assertFindings(await findingsOf({ initrd: only(), builtin }))
  })

  const dtbs = { 3: 'bcm2837-rpi-3-b.dtb', 4: 'bcm2711-rpi-4-b.dtb', 5: 'bcm2712-rpi-5-b.dtb' }
  const pi = { platform: 'aarch64-linux' }
  const drivers = {
    3: ['drivers/net/usb/smsc95xx.ko'],
    4: ['drivers/net/ethernet/broadcom/genet/genet.ko', 'drivers/net/phy/bcm-phy-lib.ko'],
    5: [
      'drivers/net/ethernet/cadence/macb.ko',
      'drivers/pci/controller/pcie-brcmstb.ko',
      'drivers/clk/clk-rp1.ko',
      'drivers/misc/rp1/rp1_pci.ko',
      'drivers/pinctrl/pinctrl-rp1.ko',
    ],
  }
  const models = [3, 4, 5] as const

  for (const model of models) {
    test(`a system only for a Raspberry Pi ${model}`, async () => {
      const parts = { ...pi, dtbs: [dtbs[model]] }
      assertFindings(await findingsOf({ ...parts, initrd: only(...drivers[model]) }))
      for (const other of models.filter((other) => other !== model)) {
        assertFindings(await findingsOf({ ...parts, initrd: only(...drivers[other]) }), {
          rule,
          message: new RegExp(`of a Raspberry Pi ${model}:`),
        })
      }
    })
  }

  test('a Raspberry Pi 4 without the driver of its PHY', async () => {
    const initrd = only('drivers/net/ethernet/broadcom/genet/genet.ko')
    assertFindings(await findingsOf({ ...pi, dtbs: [dtbs[4]], initrd }), {
      rule,
      message: /bcm_phy_lib missing/,
      fix: /"bcm_phy_lib" "broadcom"/,
    })
  })

  test('a Raspberry Pi 5 without the drivers of the RP1 and PCIe', async () => {
    const [macb = '', ...behind] = drivers[5]
    const parts = { ...pi, dtbs: [dtbs[5]] }
    const names = 'pcie_brcmstb, clk_rp1, rp1_pci, pinctrl_rp1'
    assertFindings(await findingsOf({ ...parts, initrd: only(macb) }), {
      rule,
      message: new RegExp(`: ${names} missing$`),
      fix: /"rp1_pci" "pinctrl_rp1" \];\n# with Raspberry Pi’s own kernel instead: .*"clk_rp1" "rp1" \];$/,
    })
    for (const [index, file] of behind.entries()) {
      const others = behind.toSpliced(index, 1)
      assertFindings(await findingsOf({ ...parts, initrd: only(macb, ...others) }), { rule })
      const builtin = [`kernel/${file}`]
      assertFindings(await findingsOf({ ...parts, initrd: only(macb, ...others), builtin }))
    }
    // In Raspberry Pi’s kernel the driver has another name, and the driver of the pins is no
    // module.
    const own = [...drivers[5].slice(0, 3), 'drivers/mfd/rp1.ko']
    assertFindings(await findingsOf({ ...parts, initrd: only(...own) }))
    const half = own.toSpliced(1, 1)
    assertFindings(await findingsOf({ ...parts, initrd: only(...half) }), {
      rule,
      message: /: pcie_brcmstb missing$/,
      fix: /= \[ "pcie_brcmstb" \];$/,
    })
  })

  test('a Raspberry Pi that may use another adapter gets a warning', async () => {
    const initrd = only('drivers/net/usb/r8152.ko')
    assertFindings(await findingsOf({ ...pi, dtbs: [dtbs[4]], initrd }), { rule, level: 'warning' })
    const builtin = ['kernel/drivers/net/usb/r8152.ko']
    assertFindings(await findingsOf({ ...pi, dtbs: [dtbs[4]], builtin, initrd: only() }), { rule })
  })

  test('a system for several Raspberry Pis must have the drivers of at least one', async () => {
    const parts = { ...pi, dtbs: Object.values(dtbs) }
    assertFindings(await findingsOf({ ...parts, initrd: only(...drivers[5]) }))
    assertFindings(await findingsOf({ ...parts, initrd: only() }), {
      rule,
      message: /Raspberry Pi 3 or Raspberry Pi 4 or Raspberry Pi 5/,
    })
  })

  test('the boot tree names the boards; with other device trees no board is known', async () => {
    const initrd = only(...drivers[3])
    const boot = { 'config.txt': '', [dtbs[5]]: 1000 }
    assertFindings(await findingsOf({ ...pi, initrd }, { boot }), {
      rule,
      message: /of a Raspberry Pi 5:/,
    })
    assertFindings(await findingsOf({ ...pi, initrd, dtbs: [dtbs[5], 'rk3399-rock-4.dtb'] }))
  })
})

suite('no-network-setup', () => {
  const rule = 'no-network-setup'
  const silent = stage1Script.replace(/^.*udhcpc.*$/m, '')

  test('a script that starts no DHCP client', async () => {
    const initrd = scriptedInitrd({ script: silent })
    assertFindings(await findingsOf({ initrd }), {
      rule,
      fix: /boot\.initrd\.network\.enable = true;/,
      path,
    })
    assertFindings(await findingsOf({ initrd, kernelParams: ['ip=off'] }), { rule })
    // These lines are common in boot.initrd.network.postCommands.
    for (const command of ['ip addr add 10.0.0.2/24 dev eth0', 'ifconfig eth0 10.0.0.2']) {
      const fixed = scriptedInitrd({ script: `${silent}${command}\n` })
      assertFindings(await findingsOf({ initrd: fixed }))
    }
    const flushing = scriptedInitrd({ script: `${silent}ip address show\n` })
    assertFindings(await findingsOf({ initrd: flushing }), { rule })
  })

  test('ip= that no program reads', async () => {
    const kernelParams = ['ip=dhcp']
    const initrd = scriptedInitrd({ script: silent })
    assertFindings(await findingsOf({ initrd, kernelParams }), { rule, message: /ip=dhcp/ })
    const reading = scriptedInitrd({ script: `${silent}ipconfig $o && ifaces="$ifaces"\n` })
    assertFindings(await findingsOf({ initrd: reading, kernelParams }))
    // The kernel reads ip= if it has a built-in network driver, like a Raspberry Pi's kernel.
    const builtin = ['kernel/drivers/net/ethernet/broadcom/genet/genet.ko']
    assertFindings(await findingsOf({ initrd, kernelParams, builtin }))
    assertFindings(await findingsOf({ initrd, kernelParams, builtin: undefined }))
  })

  test('a script that asks for an IPv4 address, with an IPv6 server', async () => {
    const fstab = '[fd00::1]:/srv/nixos / nfs vers=3,proto=tcp6,nolock 0 0\n'
    assertFindings(await findingsOf({ fstab }), {
      rule,
      level: 'warning',
      message: /only for an IPv4 address, but the root is on \[fd00::1\]:/,
      fix: /systemd\.enable = true/,
    })
    for (const command of [
      'ip -6 addr add fd00::2/64 dev eth0',
      'ip addr add fd00::2/64 dev eth0',
    ]) {
      const initrd = scriptedInitrd({ script: `${stage1Script}${command}\n` })
      assertFindings(await findingsOf({ fstab, initrd }))
    }
    assertFindings(await findingsOf({ ...systemdParts, fstab }))
  })

  test('systemd without networkd, or networkd without a network', async () => {
    const files = [...nfsModules, ...networkModules, ...mountNfs]
    const without = systemdInitrd({ files })
    assertFindings(await findingsOf({ ...systemdParts, initrd: without }), {
      rule,
      message: /no systemd-networkd/,
    })
    const dhcpcd = { name: 'nix/store/d-dhcpcd/bin/dhcpcd', mode: modes.program }
    const another = systemdInitrd({ files: [...files, dhcpcd] })
    assertFindings(await findingsOf({ ...systemdParts, initrd: another }))
    const idle = systemdInitrd({ network: '[Match]\nType=ether\n[Network]\nDHCP=no\n' })
    assertFindings(await findingsOf({ ...systemdParts, initrd: idle }), {
      rule,
      fix: /boot\.initrd\.systemd\.network\.networks/,
    })
    const announced = systemdInitrd({ network: '[Match]\nType=ether\n[Network]\n' })
    assertFindings(await findingsOf({ ...systemdParts, initrd: announced }), { rule })
    const fstab = '[fd00::1]:/srv/nixos / nfs vers=3,proto=tcp6,nolock 0 0\n'
    assertFindings(await findingsOf({ ...systemdParts, fstab, initrd: announced }))
    const deaf = systemdInitrd({ network: '[Match]\nType=ether\n[Network]\nIPv6AcceptRA=no\n' })
    assertFindings(await findingsOf({ ...systemdParts, fstab, initrd: deaf }), {
      rule,
      fix: /networkConfig\.DHCP = "yes"/,
    })
    const kernelParams = ['root=fstab', 'ip=:::::eth0:dhcp']
    assertFindings(await findingsOf({ ...systemdParts, kernelParams, initrd: idle }))
    const fixed = systemdInitrd({ network: '[Network]\nAddress=10.0.0.2/24\n' })
    assertFindings(await findingsOf({ ...systemdParts, initrd: fixed }))
  })

  test('nothing is found for an unknown init', async () => {
    const initrd = cpioArchive([
      { name: 'init', mode: modes.program, data: '#!/bin/sh\nexec /scripts/main\n' },
      ...nfsModules,
      ...networkModules,
    ])
    assertFindings(await findingsOf({ initrd }))
  })
})
