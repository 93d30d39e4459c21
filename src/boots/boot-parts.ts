/** What a file of a boot tree is to the machine that asks for it. */
import { unifiedKernelName } from '../boot/uefi.ts'
import { sharedPath } from '../boot/boot-files.ts'
import { initrdName, kernelName } from '../boot/raspberry-pi.ts'
import type { Manifest } from '../image/manifest.ts'

/** `unified`: kernel and initrd in one file. */
export type BootPart = 'loader' | 'kernel' | 'initrd' | 'unified'

/** @returns what the file is that a machine asks for, by the name that it asks with */
export function bootParts({ system, boot }: Manifest): (file: string) => BootPart | undefined {
  const parts = new Map<string, BootPart>()
  for (const { path, type } of boot.files) if (type === 'file') parts.set(path, 'loader')
  const set = (path: string, part: BootPart) => {
    if (parts.has(path)) parts.set(path, part)
  }
  for (const { kernel, initrd, specialisation } of system.entries) {
    set(sharedPath(kernel), 'kernel')
    if (initrd !== undefined) set(sharedPath(initrd), 'initrd')
    set(unifiedKernelName(system.platform, specialisation), 'unified')
  }
  if (parts.has('config.txt')) {
    set(kernelName, 'kernel')
    set(initrdName, 'initrd')
  }
  return (file) => {
    const path = file.replace(/^\/+/, '')
    // A folder of the machine's own, which it asks for first, by its serial or address.
    return parts.get(path) ?? parts.get(path.slice(path.indexOf('/') + 1))
  }
}
