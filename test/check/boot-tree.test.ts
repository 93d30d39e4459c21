import { suite, test } from 'node:test'
import { assertFindings, findingsOf, type ImageParts } from './make-system.ts'

const config = 'kernel=kernel8.img\ninitramfs initrd followkernel\n'
const firmware = {
  'bootcode.bin': 1,
  'start.elf': 1,
  'fixup.dat': 1,
  'start4.elf': 1,
  'fixup4.dat': 1,
}
const files = { 'config.txt': config, 'kernel8.img': 20_000_000, initrd: 30_000_000 }
const pi3 = { 'bcm2710-rpi-3-b.dtb': 1 }
const pi4 = { 'bcm2711-rpi-4-b.dtb': 1 }
const pi5 = { 'bcm2712-rpi-5-b.dtb': 1, 'bcm2712d0-rpi-5-b.dtb': 1 }
const behindPcie = ['macb', 'pcie_brcmstb', 'clk_rp1', 'rp1_pci', 'pinctrl_rp1']
const drivers = {
  builtin: ['smsc95xx', 'genet', 'bcm-phy-lib', ...behindPcie].map((name) => `kernel/${name}.ko`),
}

async function findingsOfTree(boot: ImageParts['boot']) {
  return await findingsOf(drivers, boot && { boot })
}

test('nothing is found in a tree with all files that its loaders fetch', async () => {
  assertFindings(await findingsOfTree({ ...files, ...firmware, ...pi3, ...pi4, ...pi5 }))
  assertFindings(await findingsOfTree({ ...files, ...pi5 }))
})

suite('missing-device-tree', () => {
  const rule = 'missing-device-tree'

  test('a tree for a Raspberry Pi without a device tree', async () => {
    assertFindings(await findingsOfTree({ ...files, ...firmware }), {
      rule,
      path: /net-image\/boot\/config\.txt/,
    })
  })

  test('a device tree that extlinux.conf names', async () => {
    const label = 'LABEL nixos-default\n'
    const directory = { 'nixos/dtbs/broadcom/x.dtb': 1 }
    const broken = { 'FDTDIR ../nixos/none': 'warning', 'FDT ../nixos/none.dtb': 'error' } as const
    for (const [line, level] of Object.entries(broken)) {
      const boot = { ...directory, 'extlinux/extlinux.conf': `${label}  ${line}\n` }
      assertFindings(await findingsOfTree(boot), {
        ...{ rule, level, message: /none/ },
        path: /extlinux\.conf$/,
      })
    }
    const boot = {
      ...directory,
      'extlinux/extlinux.conf': `${label}  FDTDIR ../nixos/dtbs\n`,
      'pxelinux.cfg/default': `${label}  FDT nixos/dtbs/broadcom/x.dtb\n`,
    }
    assertFindings(await findingsOfTree(boot))
    const wrong = { ...boot, 'pxelinux.cfg/default': `${label}  FDTDIR ../nixos/dtbs\n` }
    assertFindings(await findingsOfTree(wrong), {
      rule,
      level: 'warning',
      path: /pxelinux\.cfg\/default$/,
    })
  })
})

suite('missing-kernel-file', () => {
  const rule = 'missing-kernel-file'
  const files = { 'nixos/kernel': 1, 'nixos/initrd': 1 }

  test('files that the menus of loaders name', async () => {
    const menus = {
      'extlinux/extlinux.conf':
        'LABEL a\n  LINUX ../nixos/kernel\n  INITRD /nixos/initrd\nLABEL b\n  LINUX ../gone\n',
      'pxelinux.cfg/default': 'LABEL a\n  KERNEL nixos/kernel\n  INITRD nixos/initrd,nixos/gone\n',
      'boot.ipxe':
        '#!ipxe\nkernel nixos/kernel init=/nix/x || goto failed\ninitrd --name initrd nixos/gone || goto failed\n',
    }
    for (const [menu, text] of Object.entries(menus)) {
      const mended = text.replaceAll('nixos/gone', 'nixos/initrd').replace('gone', 'nixos/kernel')
      assertFindings(await findingsOfTree({ ...files, [menu]: text }), {
        rule,
        message: /gone/,
        path: new RegExp(`net-image/boot/${menu.replace('.', '\\.')}$`),
      })
      assertFindings(await findingsOfTree({ ...files, [menu]: mended }))
    }
  })

  test('URLs and variables, which only the loader knows, are ignored', async () => {
    const script = '#!ipxe\nkernel http://10.0.0.1/kernel\ninitrd ${base}/initrd\n'
    assertFindings(await findingsOfTree({ ...files, 'boot.ipxe': script }))
  })
})

suite('missing-firmware-file', () => {
  const rule = 'missing-firmware-file'

  test('no firmware for a model that needs it', async () => {
    assertFindings(await findingsOfTree({ ...files, ...pi4 }), {
      rule,
      message: /Raspberry Pi 4 .* start4\.elf, fixup4\.dat/,
      fix: /--firmware/,
    })
    const { 'bootcode.bin': _, ...rest } = firmware
    assertFindings(await findingsOfTree({ ...files, ...rest, ...pi3, ...pi4 }), {
      rule,
      level: 'warning',
      message: /Raspberry Pi 3 .* bootcode\.bin/,
    })
  })

  test('a tree that only a Pi 5 can start', async () => {
    assertFindings(await findingsOfTree({ ...files, ...pi4, ...pi5 }), { rule, level: 'warning' })
  })

  test('other firmware than usual is not reported', async () => {
    const boot = { ...files, ...pi4, 'config.txt': `start_file=start4x.elf\n${config}` }
    assertFindings(await findingsOfTree(boot))
  })

  test('files that config.txt names', async () => {
    const { initrd: _, ...rest } = files
    assertFindings(await findingsOfTree({ ...rest, ...pi5 }), { rule, message: /names initrd/ })
    const prefixed = { ...rest, ...pi5, 'config.txt': `os_prefix=old/\n${config}` }
    assertFindings(await findingsOfTree(prefixed))
    const own = { ...files, 'config.txt': `device_tree=my-board.dtb\n${config}` }
    assertFindings(await findingsOfTree({ ...own, 'my-board.dtb': 10 }))
    assertFindings(await findingsOfTree(own), { rule, message: /names my-board\.dtb/ })
    const elsewhere = { ...files, 'config.txt': `os_prefix=nixos/\n${config}` }
    assertFindings(await findingsOfTree({ ...elsewhere, 'nixos/bcm2711-rpi-4-b.dtb': 10 }))
  })
})

suite('uboot-without-ipxe', () => {
  const rule = 'uboot-without-ipxe'
  const config = 'kernel=u-boot.bin\n[pi5]\nkernel=kernel8.img\ninitramfs initrd followkernel\n'
  const uboot = { ...files, ...pi5, 'config.txt': config, 'u-boot.bin': 1 }
  const script = { 'boot.ipxe': '#!ipxe\n' }
  const ipxe = { ...script, 'ipxe-arm64.efi': 1 }

  test('U-Boot that finds iPXE, a menu, or its own script', async () => {
    for (const more of [ipxe, { 'pxelinux.cfg/default': '' }, { 'boot.scr.uimg': 1 }]) {
      assertFindings(await findingsOfTree({ ...uboot, ...more }))
    }
  })

  test('U-Boot that finds nothing to boot', async () => {
    for (const more of [{}, script, { 'ipxe-arm64.efi': 1 }]) {
      assertFindings(await findingsOfTree({ ...uboot, ...more }), {
        rule,
        message: /nothing that U-Boot starts/,
        fix: /--ipxe/,
      })
    }
  })

  test('U-Boot that takes a kernel by TFTP before it asks for iPXE', async () => {
    for (const name of ['pxelinux.cfg/default', 'pxelinux.cfg/01-dc-a6-32-01-36-c2']) {
      assertFindings(await findingsOfTree({ ...uboot, ...ipxe, [name]: '' }), {
        ...{ rule, level: 'warning', message: new RegExp(name), path: new RegExp(name) },
      })
    }
  })
})

suite('file-too-large-for-loader', () => {
  const rule = 'file-too-large-for-loader'

  test('only on a Raspberry Pi 5', async () => {
    const large = { ...files, ...firmware, initrd: 97_000_000 }
    assertFindings(await findingsOfTree({ ...large, ...pi5 }), {
      rule,
      level: 'warning',
      message: /initrd has 97 MB, and a Raspberry Pi 5 silently cuts files at about 96 MB/,
      path: /net-image\/boot\/initrd/,
    })
    assertFindings(await findingsOfTree({ ...large, ...pi4 }))
  })

  test('with an older EEPROM', async () => {
    assertFindings(await findingsOfTree({ ...files, initrd: 65_000_000, ...pi5 }), {
      rule,
      level: 'note',
      message: /older EEPROM .* 64 MB/,
    })
  })
})
