/** Whether U-Boot, which a Raspberry Pi's firmware starts, finds iPXE in the boot tree. */
import { ipxeLoaderRank, ipxeScript } from '../../boot/ipxe.ts'
import { ubootName } from '../../boot/raspberry-pi.ts'
import { unifiedKernelName } from '../../boot/uefi.ts'
import { isRaspberryPiTree } from '../boards.ts'
import type { Rule } from '../rule.ts'

export const ubootWithoutIpxe: Rule = {
  name: 'uboot-without-ipxe',
  level: 'error',
  async find({ boot, system }) {
    if (!isRaspberryPiTree(boot)) return []
    const config = (await boot.text('config.txt')) ?? ''
    // U-Boot runs a script before anything else, and the script may do anything.
    if (!startsUboot.test(config) || boot.files.has(ubootScript)) return []
    const names = [...boot.files.keys()]
    const unified = unifiedKernelName(system.platform)
    const byTftp = names.find((name) => name.startsWith('pxelinux.cfg/') || name === unified)
    const hasIpxe = names.some((name) => ipxeLoaderRank(name) !== undefined)
    const path = 'net-image/boot/config.txt'
    if (byTftp === undefined && (!hasIpxe || !boot.files.has(ipxeScript))) {
      const message = 'config.txt starts U-Boot, but the boot tree has nothing that U-Boot starts'
      const fix = 'netimage build … --boot raspberry-pi --boot ipxe --uboot FILE --ipxe DIR'
      return [{ message, fix, path }]
    }
    if (byTftp === undefined || !hasIpxe) return []
    return [
      {
        level: 'warning',
        message: `U-Boot does not start iPXE, but takes the kernel by TFTP, because the boot tree has ${byTftp}`,
        fix: 'netimage build … --boot raspberry-pi --boot ipxe, without other ways of booting',
        path: `net-image/boot/${byTftp}`,
      },
    ]
  },
}

const startsUboot = new RegExp(`^\\s*kernel=${ubootName.replace('.', '\\.')}\\s*$`, 'm')

/** What U-Boot asks DHCP for first, if it is built for a Raspberry Pi. */
const ubootScript = 'boot.scr.uimg'
