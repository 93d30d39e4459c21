/** The input of every way of booting. */
import type { NfsRoot } from '../nixos/nfs-root.ts'
import type { StoreFile } from '../nixos/store-files.ts'
import type { BootEntry, System } from '../nixos/system.ts'
import { kernelLine } from './kernel-line.ts'
import { sharedPath, storeCopy, type BootFile } from './boot-files.ts'

/** The person's settings for the boot tree. */
export interface BootSettings {
  /** A directory with the Raspberry Pi's firmware. */
  firmware?: string | undefined
  /**
   * The device tree that U-Boot loads, as in `rockchip/rk3399-rockpro64.dtb`. Default: U-Boot
   * chooses.
   */
  deviceTree?: string | undefined
  /** U-Boot, which a Raspberry Pi's firmware starts in place of the kernel. */
  uboot?: string | undefined
  /** Lines for the end of the Raspberry Pi's `config.txt`. */
  configTxt?: string | undefined
  /** A directory with iPXE's loaders. */
  ipxe?: string | undefined
  /** systemd's stub, if the system's closure has none. */
  uefiStub?: string | undefined
  /** Files with the key and the certificate that sign programs for UEFI. */
  signKey?: string | undefined
  signCertificate?: string | undefined
  /** Machines that get a configuration of their own, by hardware address. */
  machines?: readonly string[] | undefined
}

export interface BootRequest {
  system: System
  nfsRoot: NfsRoot
  settings: BootSettings
  /** Finds a file of the closure. */
  find: (path: string) => Promise<StoreFile | undefined>
  warn: (message: string) => void
}

export function isPcPlatform(platform: string): boolean {
  return platform.startsWith('x86_64-') || platform.startsWith('i686-')
}

/** A boot entry as loaders show and start it. */
export interface MenuEntry {
  /** `default`, or the specialisation's name. */
  name: string
  title: string
  entry: BootEntry
  kernelLine: string
}

export function menuEntries({ system, nfsRoot }: BootRequest): MenuEntry[] {
  return system.entries.map((entry) => ({
    name: entry.specialisation ?? 'default',
    title: `NixOS ${entry.label}${entry.specialisation ? ` (${entry.specialisation})` : ''}`,
    entry,
    kernelLine: kernelLine(entry, system.fileSystems, nfsRoot),
  }))
}

/** Copies of the kernels and initrds of all entries, each once. */
export async function kernelFiles(request: BootRequest): Promise<BootFile[]> {
  const paths = request.system.entries.flatMap(({ kernel, initrd }) =>
    initrd === undefined ? [kernel] : [kernel, initrd],
  )
  const files: BootFile[] = []
  for (const path of new Set(paths)) {
    const found = await request.find(path)
    if (found) files.push(storeCopy(sharedPath(path), found))
  }
  return files
}
