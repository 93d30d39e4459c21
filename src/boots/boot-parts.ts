/** The part that each file of a boot tree has in a boot. */
import { unifiedKernelName } from '../boot/uefi.ts'
import { sharedPath } from '../boot/boot-files.ts'
import { initrdName, kernelName } from '../boot/raspberry-pi.ts'
import type { Manifest } from '../image/manifest.ts'

/** `unified`: kernel and initrd in one file. */
export type BootPart = 'loader' | 'kernel' | 'initrd' | 'unified'

/** @returns a function that gives the part of a file, by the name that the machine asks for */
export function bootParts({
  system,
  boot,
}: Pick<Manifest, 'system' | 'boot'>): (file: string) => BootPart | undefined {
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
    // The machine may first ask below a folder of its own, named by its serial or address.
    return parts.get(path) ?? parts.get(path.slice(path.indexOf('/') + 1))
  }
}
