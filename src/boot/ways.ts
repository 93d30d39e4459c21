/** The ways to boot, by name. */
import { NetimageError } from '../errors.ts'
import type { BootFile } from './boot-files.ts'
import { extlinuxFiles } from './extlinux.ts'
import { ipxeFiles } from './ipxe.ts'
import { raspberryPiFiles } from './raspberry-pi.ts'
import { isPcPlatform, type BootRequest } from './request.ts'
import { findSystemStub, uefiFiles } from './uefi.ts'

export const bootWays = ['extlinux', 'raspberry-pi', 'ipxe', 'uefi'] as const

export type BootWay = (typeof bootWays)[number]

const makers: Record<BootWay, (request: BootRequest) => Promise<BootFile[]>> = {
  extlinux: extlinuxFiles,
  'raspberry-pi': raspberryPiFiles,
  ipxe: ipxeFiles,
  uefi: uefiFiles,
}

export function isBootWay(text: string): text is BootWay {
  return bootWays.some((way) => way === text)
}

/**
 * The ways to boot if none was named. `extlinux` is for U-Boot and pxelinux. A PC gets iPXE too.
 * UEFI is added if there is a stub, and the Raspberry Pi's loader if its firmware was given. U-Boot
 * would take the kernel of a menu, or a unified kernel image, by TFTP before it starts iPXE.
 */
export async function defaultWays(request: BootRequest): Promise<BootWay[]> {
  const { system, settings } = request
  if (settings.uboot !== undefined && settings.ipxe !== undefined) return ['raspberry-pi', 'ipxe']
  const ways: BootWay[] = ['extlinux']
  if (isPcPlatform(system.platform) || settings.ipxe !== undefined) ways.push('ipxe')
  if (settings.firmware !== undefined || settings.uboot !== undefined) ways.push('raspberry-pi')
  if (settings.uefiStub !== undefined || (await findSystemStub(request))) ways.push('uefi')
  return ways
}

/** The files of all ways. A file that several ways need appears once. */
export async function bootFiles(
  ways: readonly BootWay[],
  request: BootRequest,
): Promise<BootFile[]> {
  const files = new Map<string, BootFile>()
  for (const way of ways) {
    for (const file of await makers[way](request)) {
      if (file.path.startsWith('/') || file.path.split('/').includes('..')) {
        throw new NetimageError('bad-system', `the boot tree cannot hold ${file.path}`)
      }
      files.set(file.path, file)
    }
  }
  return [...files.values()]
}
