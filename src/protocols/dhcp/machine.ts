/** Who sent a request, and which of a machine's programs it was. */
import {
  httpArchitectures,
  raspberryPiArchitecture,
  raspberryPiGuid,
  raspberryPiPrefixes,
} from '../../firmware.ts'
import { formatMac } from '../../mac.ts'
import { architecturesIn, option, textOf, userClassesIn } from './options.ts'
import type { DhcpPacket } from './packet.ts'

/**
 * What boots by what DHCP tells it: firmware that speaks PXE, firmware that boots over HTTP, and
 * what is not like these.
 */
export type BootClient = 'pxe' | 'http' | 'ipxe' | 'raspberry-pi' | 'u-boot'

export interface Machine {
  /** Lower case with colons. */
  mac: string
  /** Undefined: a kernel or a system, which only wants an address. */
  bootClient: BootClient | undefined
  /** IANA's processor architecture types, the one that is meant first. */
  architectures: readonly number[]
  vendorClass: string | undefined
  userClasses: readonly string[]
}

/** U-Boot on Arm, 32 and 64 bits; its own vendor class says so for all others. */
const ubootArchitectures = new Set([21, 22])

/** @returns undefined where it has no hardware address of six bytes */
export function machineOf(packet: DhcpPacket): Machine | undefined {
  const { hardwareAddress, options } = packet
  if (hardwareAddress.length !== 6) return undefined
  const vendorClass = options.get(option.vendorClass)
  const machine = {
    mac: formatMac(hardwareAddress),
    architectures: architecturesIn(packet),
    vendorClass: vendorClass && textOf(vendorClass),
    userClasses: userClassesIn(packet),
  }
  return { ...machine, bootClient: bootClientOf(machine, options) }
}

function bootClientOf(
  { mac, architectures, vendorClass, userClasses }: Omit<Machine, 'bootClient'>,
  options: DhcpPacket['options'],
): BootClient | undefined {
  // A user class of another name was set by a person, who wants what firmware gets.
  const isIpxe = userClasses.length === 0 ? options.has(option.ipxe) : userClasses.includes('iPXE')
  if (isIpxe) return 'ipxe'
  const isUboot = architectures.some((architecture) => ubootArchitectures.has(architecture))
  if (vendorClass?.startsWith('U-Boot') === true || isUboot) return 'u-boot'
  const [architecture] = architectures
  if (architecture === raspberryPiArchitecture) return 'raspberry-pi'
  // Nobody who has a system says for what processor. [RFC 4578 §2.1] Some forget the vendor class.
  const forgets = vendorClass === undefined && architecture !== undefined
  const isHttp = forgets && httpArchitectures.has(architecture)
  if (vendorClass?.startsWith('HTTPClient') === true || isHttp) return 'http'
  if (vendorClass?.startsWith('PXEClient') !== true && !forgets) return undefined
  // Its loader calls itself a BIOS; what it starts (UEFI, U-Boot) knows better.
  const guid = options.get(option.guid)?.toString('hex') ?? ''
  const isPi =
    guid.startsWith(raspberryPiGuid) || raspberryPiPrefixes.some((prefix) => mac.startsWith(prefix))
  return isPi && (architecture ?? 0) === 0 ? 'raspberry-pi' : 'pxe'
}
