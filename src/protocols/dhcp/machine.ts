/** Who sent a request, and which of a machine's programs it was. */
import { raspberryPiPrefixes } from '../../firmware.ts'
import { architecturesIn, guidIn, option, textOf, userClassesIn } from './options.ts'
import type { DhcpPacket } from './packet.ts'

/**
 * What boots by what DHCP tells it: firmware that speaks PXE, firmware that boots over HTTP, and
 * what is not like these.
 */
export type BootClient = 'pxe' | 'http' | 'ipxe' | 'raspberry-pi' | 'u-boot'

export interface Machine {
  /** Lower case with colons. */
  mac: string
  /** Option 97, as the firmware's own tables have it. */
  uuid: string | undefined
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
  const mac = hardwareAddress.toString('hex').replaceAll(/(..)(?=.)/g, '$1:')
  const vendorClass = options.get(option.vendorClass)
  const machine = {
    mac,
    uuid: guidIn(packet),
    architectures: architecturesIn(packet),
    vendorClass: vendorClass && textOf(vendorClass),
    userClasses: userClassesIn(packet),
  }
  return { ...machine, bootClient: bootClientOf(machine, options.has(option.ipxe)) }
}

function bootClientOf(
  { mac, architectures, vendorClass = '', userClasses }: Omit<Machine, 'bootClient'>,
  hasIpxeOptions: boolean,
): BootClient | undefined {
  // A user class of another name was set by a person, who wants what firmware gets.
  const isIpxe = userClasses.length === 0 ? hasIpxeOptions : userClasses.includes('iPXE')
  if (isIpxe) return 'ipxe'
  const isUboot = architectures.some((architecture) => ubootArchitectures.has(architecture))
  if (vendorClass.startsWith('U-Boot') || isUboot) return 'u-boot'
  if (vendorClass.startsWith('HTTPClient')) return 'http'
  if (!vendorClass.startsWith('PXEClient')) return undefined
  const [architecture = 0] = architectures
  // Its loader calls itself a BIOS; what it starts (UEFI, U-Boot) knows better.
  const isPi = architecture === 0 && raspberryPiPrefixes.some((prefix) => mac.startsWith(prefix))
  return isPi ? 'raspberry-pi' : 'pxe'
}
