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
 * Processor architecture types that machines send in option 93.
 *
 * https://www.iana.org/assignments/dhcpv6-parameters/dhcpv6-parameters.xhtml#processor-architecture
 */
export const architectures = {
  bios: [0],
  efiX64: [7, 9],
  efiArm64: [11],
  httpX64: [16],
  httpArm64: [19],
} as const

/** The first bytes of a Raspberry Pi's hardware address. */
export const raspberryPiPrefixes = [
  'b8:27:eb',
  'dc:a6:32',
  'e4:5f:01',
  'd8:3a:dd',
  '28:cd:c1',
  '2c:cf:67',
  '88:a2:9e',
]

/** A Pi's loader takes part only where the menu of option 43 has this; a Pi 3 wants the blanks. */
export const raspberryPiMenu = 'Raspberry Pi Boot   '

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
