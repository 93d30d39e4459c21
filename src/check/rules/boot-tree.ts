/** Whether the boot tree has what its loaders fetch. */
import { posix } from 'node:path'

import { boardsOfTree, isRaspberryPiTree, type Board } from '../boards.ts'
import type { BootTree } from '../context.ts'
import { lines, type Problem, type Rule } from '../rule.ts'

/** Where the boot tree lies in an image. */
const shown = (path: string) => `net-image/boot/${path}`

export const missingDeviceTree: Rule = {
  name: 'missing-device-tree',
  level: 'error',
  async find({ boot }) {
    if (!boot) return []
    const problems: Problem[] = []
    for (const path of ['extlinux/extlinux.conf', 'pxelinux.cfg/default']) {
      problems.push(...(await missingInExtlinux(boot, path)))
    }
    if (isRaspberryPiTree(boot) && boardsOfTree(boot).length === 0) {
      problems.push({
        message:
          'the boot tree has no device tree of a Raspberry Pi, without which the kernel does not start',
        fix: lines(
          'hardware.deviceTree.enable = true;',
          'or: netimage build … --firmware DIR, with a directory that has bcm27*.dtb',
        ),
        path: shown('config.txt'),
      })
    }
    return problems
  },
}

/** Names in extlinux.conf are relative to it; U-Boot’s of pxelinux.cfg to the root of the tree. */
async function missingInExtlinux(boot: BootTree, path: string): Promise<Problem[]> {
  const folder = path.startsWith('pxelinux.cfg/') ? '' : posix.dirname(path)
  const text = (await boot.text(path)) ?? ''
  const named = [...text.matchAll(/^\s*(?:FDT|FDTDIR|DEVICETREE|DEVICETREEDIR)\s+(\S+)\s*$/gim)]
  return [...new Set(named.map(([, name = '']) => name))]
    .filter((name) => !boot.files.has(posix.join(folder, name).replace(/^\/|\/$/g, '')))
    .map((name) => ({
      message: `${path} names the device tree ${name}, which is not in the boot tree`,
      fix: 'Name one that the kernel has (hardware.deviceTree.name), and build the image again.',
      path: shown(path),
    }))
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

/** Settings by which other firmware than the usual is fetched. */
const otherFirmware =
  /^\s*(?:start_file|fixup_file|start_x|start_debug|start_cd|gpu_mem\w*|os_prefix)\s*=/m

function missingLoaders(boot: BootTree, config: string): Problem[] {
  if (otherFirmware.test(config)) return []
  const targets = boardsOfTree(boot)
  const missing = (board: Board) => board.firmware.filter((name) => !boot.files.has(name))
  // A tree for one model has no need of what the others fetch.
  const anyStarts = targets.some((board) => missing(board).length === 0)
  return targets
    .filter((board) => missing(board).length > 0)
    .map((board) => ({
      level: anyStarts ? 'warning' : 'error',
      message: `a ${board.name} does not start from the boot tree, which lacks ${missing(board).join(', ')}`,
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
      fix: 'Take the line out of config.txt, or make the file in populateFirmwareCommands.',
      path: shown(name),
    }))
}

/** Kernels and initrds, by whatever model. https://www.raspberrypi.com/documentation/computers/config_txt.html */
function namedFiles(config: string): string[] {
  const kernels = [...config.matchAll(/^\s*kernel=(\S+)/gm)].map(([, name = '']) => name)
  const initrds = [...config.matchAll(/^\s*(?:initramfs\s+|ramfsfile=)(\S+)/gm)]
  const names = initrds.flatMap(([, list = '']) => list.split(','))
  return [...new Set([...kernels, ...names])].filter((name) => name !== '')
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
            : 'sudo rpi-eeprom-update -a  # on the Raspberry Pi: a newer EEPROM asks for larger blocks',
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
