/** What kinds of firmware there are, and what of a boot tree each of them is given. */
import { ipxeScript } from './ipxe.ts'

/** What each kind of firmware is given; undefined where there is nothing for it. */
export interface Loaders {
  /** The script, for iPXE that runs already: a file of the boot tree, or its URL. */
  ipxe: string | undefined
  /** Files of the boot tree. */
  bios: string | undefined
  efiX64: string | undefined
  efiArm64: string | undefined
  /** URLs, for firmware that boots over HTTP. */
  httpX64: string | undefined
  httpArm64: string | undefined
  /** Whether U-Boot finds a menu. */
  uboot: boolean
  raspberryPi: boolean
}

/**
 * @param files the paths of the boot tree
 * @param http where the boot tree is served over HTTP, with a slash at its end
 */
export function findLoaders(files: ReadonlySet<string>, http: string | undefined): Loaders {
  const first = (...names: string[]) => names.find((name) => files.has(name))
  const urlOf = (file: string | undefined) =>
    file === undefined || http === undefined ? undefined : `${http}${file}`
  const script = first(ipxeScript)
  const efiX64 = first('bootx64.efi', 'snponly.efi', 'ipxe.efi')
  const efiArm64 = first('bootaa64.efi', 'ipxe-arm64.efi')
  return {
    ipxe: urlOf(script) ?? script,
    bios: first('undionly.kpxe', 'ipxe.pxe', 'lpxelinux.0', 'pxelinux.0'),
    efiX64,
    efiArm64,
    httpX64: urlOf(efiX64),
    httpArm64: urlOf(efiArm64),
    uboot: files.has('pxelinux.cfg/default'),
    raspberryPi: files.has('config.txt'),
  }
}
