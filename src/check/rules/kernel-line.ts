/** Whether the loader and the kernel read the whole kernel line as it is meant. */
import { isIP } from 'node:net'

import { kernelLine, kernelParameter } from '../../boot/kernel-line.ts'
import { isPcPlatform } from '../../boot/request.ts'
import { parseNfsRoot } from '../../nixos/nfs-root.ts'
import type { BootEntry } from '../../nixos/system.ts'
import type { CheckContext } from '../context.ts'
import { readNfsRoot } from '../nfs.ts'
import { findPerEntry, lines, type Problem, type Rule } from '../rule.ts'

/**
 * The number of bytes of the line that a kernel keeps, by processor: COMMAND_LINE_SIZE in the
 * kernel's arch/<name>/include, without the byte that ends the line.
 */
const keptByKernel: Record<string, number> = {
  x86_64: 2047,
  i686: 2047,
  aarch64: 2047,
  powerpc64le: 2047,
  loongarch64: 4095,
  s390x: 4095,
  riscv64: 1023,
  armv7l: 1023,
  armv6l: 1023,
}

/**
 * U-Boot's CONFIG_SYS_CBSIZE is 1024 on most boards. Its menu refuses an APPEND that is not shorter
 * (`label_boot` in boot/pxe_utils.c).
 */
const takenByUBoot = 1023

export const kernelLineTooLong: Rule = {
  name: 'kernel-line-too-long',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, (entry) => {
      const size = Buffer.byteLength(lineOf(context, entry))
      const { platform } = context.system
      const kept = keptByKernel[platform.split('-', 1)[0] ?? ''] ?? Infinity
      const path = context.system.toplevel
      if (size > kept) {
        const message = `the kernel line has ${size} bytes, but the kernel keeps only ${kept}: the last parameters are lost`
        return [{ message, fix: shorterLine, path }]
      }
      const isForUBoot = !isPcPlatform(platform) && context.boot?.files.has(menu)
      if (!isForUBoot || size <= takenByUBoot) return []
      const message = `the kernel line has ${size} bytes, but U-Boot takes at most ${takenByUBoot} on most boards: it refuses the menu’s entry with “bootarg overflow”`
      return [{ level: 'warning', message, fix: shorterLine, path: `net-image/boot/${menu}` }]
    })
  },
}

const menu = 'extlinux/extlinux.conf'

const shorterLine =
  '# boot.kernelParams: remove parameters that have other options, such as options of modules (boot.extraModprobeConfig) and sysctls (boot.kernel.sysctl)'

function lineOf({ system, nfsRoot }: CheckContext, entry: BootEntry): string {
  return kernelLine(entry, system.fileSystems, nfsRoot ?? parseNfsRoot('/'))
}

export const nfsrootMisread: Rule = {
  name: 'nfsroot-misread',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const isByKernel = (await context.rootMountOf(entry)).by === 'kernel-line'
      return isByKernel ? misreadByKernel(context, entry) : leftByStage1(context)
    })
  },
}

/**
 * The kernel uses the path as a format of printf, with the machine's address or name as its
 * argument. It takes a text that begins with neither a digit nor `/` for a folder in /tftpboot
 * (`nfs_root_setup` and `root_nfs_data` in fs/nfs/nfsroot.c).
 */
function misreadByKernel(context: CheckContext, entry: BootEntry): Problem[] {
  const own = kernelParameter(entry, 'nfsroot')
  const root = own === undefined ? context.nfsRoot : readNfsRoot(own)
  if (!root) return []
  const path = context.system.toplevel
  const problems: Problem[] = []
  if (root.server !== undefined && isIP(root.server) !== 4) {
    problems.push({
      message: `the kernel mounts the root of nfsroot=${root.text}, but it takes only an IPv4 address as the server: it would look for a folder in /tftpboot`,
      fix: 'Name the server by its IPv4 address, or let stage 1 mount the root: fileSystems."/".',
      path,
    })
  }
  if (root.path.replace('%s', '').includes('%')) {
    problems.push({
      message: `the kernel uses the path ${root.path} of nfsroot= as a format of printf, which may have one %s and no other %`,
      fix: 'Name a path without %, and rename the directory on the server.',
      path,
    })
  } else if (root.path.includes('%s')) {
    problems.push({
      level: 'warning',
      message: `the kernel replaces %s in ${root.path} by the machine’s name or address, but netimage’s servers and configurations do not`,
      fix: 'Name a path without %s: netimage serve gives each machine a root of its own.',
      path,
    })
  }
  return problems
}

/** In the fstab, `%s` is an ordinary part of the path. */
function leftByStage1(context: CheckContext): Problem[] {
  const device = context.rootFileSystem?.device
  const named = device !== undefined && /%s/.test(device) ? device : context.nfsRoot?.text
  if (named === undefined || !named.includes('%s')) return []
  return [
    {
      message: `nothing replaces %s in ${named} by the machine’s name or address: only a kernel that mounts the root itself does this, and stage 1 asks for a directory with this name`,
      fix: lines(
        'netImage.nfsRoot = "192.168.0.108:/srv/nixos,v3";',
        '# netimage serve gives each machine its own root below one path',
      ),
      path: `${context.system.toplevel}/etc/fstab`,
    },
  ]
}
