/** The machine that sent a request, and the program of the machine that sent it. */
import {
  httpArchitectures,
  raspberryPiArchitecture,
  raspberryPiGuid,
  raspberryPiPrefixes,
} from '../../firmware.ts'
import { formatMac } from '../../mac.ts'
import { serialInGuid } from '../../serial-number.ts'
import { architecturesIn, option, textOf, userClassesIn } from './options.ts'
import type { DhcpPacket } from './packet.ts'

/** The kinds of firmware and loaders that boot by DHCP; each needs its own form of answer. */
export type BootClient = 'pxe' | 'http' | 'ipxe' | 'raspberry-pi' | 'u-boot'

export interface Machine {
  /** Lower case with colons. */
  mac: string
  /** Undefined: a kernel or a system, which only needs an address. */
  bootClient: BootClient | undefined
  /** IANA's processor architecture types, the preferred one first. */
  architectures: readonly number[]
  vendorClass: string | undefined
  userClasses: readonly string[]
  /** As `serial-number.ts` has it. */
  serial?: string
}

/** U-Boot on Arm, 32 and 64 bits. On other processors, only its vendor class identifies U-Boot. */
const ubootArchitectures = new Set([21, 22])

/** @returns undefined if the packet has no hardware address of six bytes */
export function machineOf(packet: DhcpPacket): Machine | undefined {
  const { hardwareAddress, options } = packet
  if (hardwareAddress.length !== 6) return undefined
  const vendorClass = options.get(option.vendorClass)
  const serial = serialInGuid(options.get(option.guid) ?? Buffer.alloc(0))
  const machine = {
    mac: formatMac(hardwareAddress),
    architectures: architecturesIn(packet),
    vendorClass: vendorClass && textOf(vendorClass),
    userClasses: userClassesIn(packet),
    ...(serial !== undefined && { serial }),
  }
  return { ...machine, bootClient: bootClientOf(machine, options) }
}

function bootClientOf(
  { mac, architectures, vendorClass, userClasses }: Omit<Machine, 'bootClient'>,
  options: DhcpPacket['options'],
): BootClient | undefined {
  // If a person set another user class in iPXE, the person wants the answer for plain firmware.
  const isIpxe = userClasses.length === 0 ? options.has(option.ipxe) : userClasses.includes('iPXE')
  if (isIpxe) return 'ipxe'
  const isUboot = architectures.some((architecture) => ubootArchitectures.has(architecture))
  if (vendorClass?.startsWith('U-Boot') === true || isUboot) return 'u-boot'
  const [architecture] = architectures
  if (architecture === raspberryPiArchitecture) return 'raspberry-pi'
  // Only firmware sends an architecture. [RFC 4578 §2.1] Some firmware lacks the vendor class.
  const forgets = vendorClass === undefined && architecture !== undefined
  const isHttp = forgets && httpArchitectures.has(architecture)
  if (vendorClass?.startsWith('HTTPClient') === true || isHttp) return 'http'
  if (vendorClass?.startsWith('PXEClient') !== true && !forgets) return undefined
  // The loader of a Raspberry Pi sends the architecture of a BIOS. UEFI on a Pi sends its own.
  const guid = options.get(option.guid)?.toString('hex') ?? ''
  const isPi =
    guid.startsWith(raspberryPiGuid) || raspberryPiPrefixes.some((prefix) => mac.startsWith(prefix))
  return isPi && (architecture ?? 0) === 0 ? 'raspberry-pi' : 'pxe'
}
