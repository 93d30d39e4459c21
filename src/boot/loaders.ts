/** The files of a boot tree that a DHCP server names to each kind of firmware. */
import { uefiProcessors, type Firmware, type UefiProcessor } from '../firmware.ts'
import { ipxeLoaderRank, ipxeScript } from './ipxe.ts'

/**
 * The boot file for each kind of firmware: a path in the boot tree, or a URL for firmware that
 * boots over HTTP. Undefined if the boot tree has no file for this firmware.
 */
export interface Loaders extends Record<Firmware, string | undefined> {
  /** The script for a machine that already runs iPXE: a path in the boot tree, or its URL. */
  ipxe: string | undefined
  /** Whether the boot tree has a menu for U-Boot. */
  uboot: boolean
  raspberryPi: boolean
}

/**
 * @param files the paths of the boot tree
 * @param processorOf the processor of a program for UEFI, or undefined if the file is no such
 *   program. Names do not tell: nixpkgs and Fedora use `ipxe.efi` and `snponly.efi` for every
 *   processor.
 * @param http the URL of the boot tree, with a slash at the end
 */
export function findLoaders(
  files: ReadonlySet<string>,
  processorOf: (file: string) => UefiProcessor | undefined,
  http: string | undefined,
): Loaders {
  const first = (...names: string[]) => names.find((name) => files.has(name))
  const urlOf = (file: string | undefined) =>
    file === undefined || http === undefined ? undefined : `${http}${file}`
  const script = first(ipxeScript)
  const loaders: Loaders = {
    ipxe: urlOf(script) ?? script,
    bios: first('undionly.kpxe', 'ipxe.pxe', 'lpxelinux.0', 'pxelinux.0'),
    ...{ efiX64: undefined, efiArm64: undefined, efiRiscv64: undefined },
    ...{ httpX64: undefined, httpArm64: undefined, httpRiscv64: undefined },
    uboot: files.has('pxelinux.cfg/default'),
    raspberryPi: files.has('config.txt'),
  }
  const own = Object.values(uefiProcessors).map(({ name }) => `boot${name}.efi`)
  for (const file of [...own.filter((name) => files.has(name)), ...ipxeLoaders(files)]) {
    const processor = processorOf(file)
    if (processor === undefined) continue
    const { loader, httpLoader } = uefiProcessors[processor]
    loaders[loader] ??= file
    loaders[httpLoader] ??= urlOf(file)
  }
  return loaders
}

function ipxeLoaders(files: ReadonlySet<string>): string[] {
  const ranked = [...files].flatMap((file): [string, number][] => {
    const rank = ipxeLoaderRank(file)
    return rank === undefined ? [] : [[file, rank]]
  })
  return ranked
    .toSorted(([one, rank], [other, otherRank]) => rank - otherRank || (one < other ? -1 : 1))
    .map(([file]) => file)
}
