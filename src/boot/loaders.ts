/** What kinds of firmware there are, and what of a boot tree each of them is given. */
import { uefiProcessors, type Firmware, type UefiProcessor } from '../firmware.ts'
import { ipxeLoaderRank, ipxeScript } from './ipxe.ts'

/**
 * What each kind of firmware is given; undefined if there is nothing for it. Files of the boot tree,
 * but URLs for firmware that boots over HTTP.
 */
export interface Loaders extends Record<Firmware, string | undefined> {
  /** The script, for iPXE that runs already: a file of the boot tree, or its URL. */
  ipxe: string | undefined
  /** Whether U-Boot finds a menu. */
  uboot: boolean
  raspberryPi: boolean
}

/**
 * @param files the paths of the boot tree
 * @param processorOf which processor a program for UEFI is for: names do not tell, nixpkgs and Fedora
 *   have `ipxe.efi` and `snponly.efi` for each; undefined for what is no such program
 * @param http where the boot tree is served over HTTP, with a slash at its end
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
