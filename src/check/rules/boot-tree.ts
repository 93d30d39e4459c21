/** Whether the boot tree has the files that loaders fetch. */
import { posix } from 'node:path'

import { ipxeScript } from '../../boot/ipxe.ts'
import { boardsOfTree, isRaspberryPiTree, type Board } from '../boards.ts'
import type { BootTree } from '../context.ts'
import { lines, type Problem, type Rule } from '../rule.ts'

/** The path in the image of a file of the boot tree. */
const shown = (path: string) => `net-image/boot/${path}`

export const missingDeviceTree: Rule = {
  name: 'missing-device-tree',
  level: 'error',
  async find({ boot }) {
    if (!boot) return []
    const problems: Problem[] = []
    for (const menu of menus) {
      for (const line of [deviceTreeLine, deviceTreesLine]) {
        // If the folder is missing, U-Boot uses its own device tree.
        const level = line === deviceTreesLine ? 'warning' : 'error'
        for (const name of await missingNames(boot, menu, line)) {
          problems.push({
            level,
            message: `${menu} names the device tree ${name}, which is not in the boot tree`,
            fix: 'Name a device tree of the kernel (hardware.deviceTree.name), and build the image again.',
            path: shown(menu),
          })
        }
      }
    }
    const config = isRaspberryPiTree(boot) ? ((await boot.text('config.txt')) ?? '') : undefined
    // These settings name another folder, or a device tree with a custom name.
    const isElsewhere = config === undefined || /^\s*(?:os_prefix|device_tree)\s*=/m.test(config)
    if (!isElsewhere && boardsOfTree(boot).length === 0) {
      problems.push({
        message:
          'the boot tree has no device tree of a Raspberry Pi, and the kernel does not start without one',
        fix: lines(
          'hardware.deviceTree.enable = true;',
          '# or: netimage build … --firmware DIR, with a directory that has bcm27*.dtb',
        ),
        path: shown('config.txt'),
      })
    }
    return problems
  },
}

export const missingKernelFile: Rule = {
  name: 'missing-kernel-file',
  level: 'error',
  async find({ boot }) {
    if (!boot) return []
    const problems: Problem[] = []
    for (const menu of [...menus, ipxeScript]) {
      const line = menu === ipxeScript ? ipxeLine : kernelLine
      for (const name of await missingNames(boot, menu, line)) {
        problems.push({
          message: `${menu} names ${name}, which is not in the boot tree`,
          fix: 'Make the file in populateFirmwareCommands, or remove the line that names it there.',
          path: shown(menu),
        })
      }
    }
    return problems
  },
}

const menus = ['extlinux/extlinux.conf', 'pxelinux.cfg/default']
const deviceTreeLine = /^\s*(?:FDT|DEVICETREE)\s+(\S+)\s*$/gim
const deviceTreesLine = /^\s*(?:FDTDIR|DEVICETREEDIR)\s+(\S+)\s*$/gim
const kernelLine = /^\s*(?:LINUX|KERNEL|INITRD)\s+(\S+)\s*$/gim
const ipxeLine = /^\s*(?:kernel|initrd)\s+(?:--name\s+\S+\s+)?([^\s/]\S*)/gm

/**
 * Names in extlinux.conf are relative to its folder. Names in other menus are relative to the tree.
 */
async function missingNames(boot: BootTree, menu: string, line: RegExp): Promise<string[]> {
  const folder = menu.startsWith('extlinux/') ? posix.dirname(menu) : ''
  const text = (await boot.text(menu)) ?? ''
  const names = [...text.matchAll(line)].flatMap(([, name = '']) => name.split(','))
  // A URL may lead anywhere, and the loader replaces ${…}.
  const own = names.filter((name) => !/:|\$\{/.test(name))
  const pathOf = (name: string) => posix.join(name.startsWith('/') ? '' : folder, name)
  return [...new Set(own)].filter((name) => !boot.files.has(pathOf(name).replace(/^\/|\/$/g, '')))
}

export const missingFirmwareFile: Rule = {
  name: 'missing-firmware-file',
  level: 'error',
  async find({ boot }) {
    if (!isRaspberryPiTree(boot)) return []
    const config = (await boot.text('config.txt')) ?? ''
    return [...missingLoaders(boot, config), ...missingNamed(boot, config)]
  },
}

/** Settings that make the loader fetch other firmware than usual. */
const otherFirmware =
  /^\s*(?:start_file|fixup_file|start_x|start_debug|start_cd|gpu_mem\w*|os_prefix)\s*=/m

function missingLoaders(boot: BootTree, config: string): Problem[] {
  if (otherFirmware.test(config)) return []
  const targets = boardsOfTree(boot)
  const missing = (board: Board) => board.firmware.filter((name) => !boot.files.has(name))
  // A tree for one model does not need the files of the others.
  const anyStarts = targets.some((board) => missing(board).length === 0)
  return targets
    .filter((board) => missing(board).length > 0)
    .map((board) => ({
      level: anyStarts ? 'warning' : 'error',
      message: `a ${board.name} does not start from the boot tree, because it lacks ${missing(board).join(', ')}`,
      fix: 'netimage build … --firmware DIR, with nixpkgs’s raspberrypifw or Debian’s raspi-firmware',
      path: shown(missing(board)[0] ?? ''),
    }))
}

function missingNamed(boot: BootTree, config: string): Problem[] {
  if (/^\s*os_prefix\s*=/m.test(config)) return []
  return namedFiles(config)
    .filter((name) => !boot.files.has(name))
    .map((name) => ({
      message: `config.txt names ${name}, which is not in the boot tree`,
      fix: 'Remove the line from config.txt, or make the file in populateFirmwareCommands.',
      path: shown(name),
    }))
}

/**
 * Kernels, device trees and initrds of all models.
 *
 * https://www.raspberrypi.com/documentation/computers/config_txt.html
 */
function namedFiles(config: string): string[] {
  const kernels = [...config.matchAll(/^\s*kernel=(\S+)/gm)].map(([, name = '']) => name)
  const trees = [...config.matchAll(/^\s*device_tree=(\S+)/gm)].map(([, name = '']) => name)
  const initrds = [...config.matchAll(/^\s*(?:initramfs\s+|ramfsfile=)(\S+)/gm)]
  const names = initrds.flatMap(([, list = '']) => list.split(','))
  return [...new Set([...kernels, ...trees, ...names])].filter((name) => name !== '')
}

export const fileTooLarge: Rule = {
  name: 'file-too-large-for-loader',
  level: 'warning',
  async find({ boot }) {
    if (!isRaspberryPiTree(boot)) return []
    const config = (await boot.text('config.txt')) ?? ''
    const problems: Problem[] = []
    for (const { name: board, maxFileBytes } of boardsOfTree(boot)) {
      if (!maxFileBytes) continue
      for (const name of namedFiles(config)) {
        const file = boot.files.get(name)
        if (file?.type !== 'file' || file.size <= maxFileBytes.older) continue
        const isOver = file.size > maxFileBytes.now
        const limit = isOver ? maxFileBytes.now : maxFileBytes.older
        const which = isOver ? '' : ' with an older EEPROM'
        problems.push({
          level: isOver ? 'warning' : 'note',
          message: `${name} has ${megabytes(file.size)}, and a ${board}${which} silently cuts files at about ${megabytes(limit)}`,
          fix: isOver
            ? 'boot.initrd.compressor = "xz";  # and fewer modules: boot.initrd.includeDefaultModules = false;'
            : 'sudo rpi-eeprom-update -a  # on the Raspberry Pi: a newer EEPROM uses larger blocks',
          path: shown(name),
        })
      }
    }
    return problems
  },
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`
}
