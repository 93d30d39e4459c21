/** The form in which each kind of firmware expects its boot information. */
import { architectures, raspberryPiVendorOptions } from '../../firmware.ts'
import type { BootClient, Machine } from './machine.ts'
import { byteValue, encloseOptions, option } from './options.ts'
import type { DhcpPacket } from './packet.ts'

export interface BootAnswer {
  client: BootClient
  /** The address of the TFTP server. */
  server: string
  /**
   * A file of the boot tree, or a URL. A Raspberry Pi and U-Boot ignore it: they always ask for the
   * same names.
   */
  file?: string
}

/** Why there is nothing to boot for a machine. */
export interface NoBoot {
  reason: string
}

/** The server that answers: the one that gives addresses, or a proxy on port 67 or port 4011. */
export type Teller = 'address-server' | 'proxy' | 'proxy-4011'

/** The fields and options of a packet that tell a machine what to boot. */
export type BootFields = Pick<DhcpPacket, 'nextServer' | 'file' | 'options'>

/** One of PXE's options, in option 43. Intel's PXE specification 2.1, section 2.2.2 */
const discoveryControl = 6
/** Use the file of this packet: show no menu, and do not search for boot servers. */
const takeTheFile = 8

export function bootFields(answer: BootAnswer, teller: Teller, machine: Machine): BootFields {
  const { client, server, file = '' } = answer
  const isProxy = teller !== 'address-server'
  const options = new Map<number, Buffer>()
  // Machines ignore a proxyDHCP server whose vendor class is not PXEClient.
  if (isProxy) options.set(option.vendorClass, Buffer.from('PXEClient'))
  switch (client) {
    case 'ipxe':
      if (!isProxy) options.set(option.ipxe, encloseOptions([[ipxeNoProxyDhcp, byteValue(1)]]))
      break
    case 'http':
      options.set(option.vendorClass, Buffer.from('HTTPClient'))
      break
    case 'raspberry-pi':
      options.set(option.vendorClass, Buffer.from('PXEClient'))
      options.set(option.vendorOptions, raspberryPiVendorOptions)
      options.set(option.tftpServer, Buffer.from(server))
      break
    case 'pxe': {
      const isBios = architectures.bios.some((bios) => bios === (machine.architectures[0] ?? 0))
      if (isProxy && isBios) {
        const control = [discoveryControl, byteValue(takeTheFile)] as const
        options.set(option.vendorOptions, encloseOptions([control]))
      }
      // UEFI always asks again on port 4011. Some versions fail if the offer names a file.
      if (teller === 'proxy' && !isBios) return { nextServer: server, file: '', options }
      break
    }
    case 'u-boot':
      break
  }
  const inHeader = file.length <= maxHeaderFile
  if (!inHeader) options.set(option.bootFile, Buffer.from(file))
  return { nextServer: server, file: inHeader ? file : '', options }
}

/** The field has 128 bytes; one is for the zero at the end. */
const maxHeaderFile = 127

/** Tells iPXE not to wait for a proxyDHCP server. https://ipxe.org/cfg/no-pxedhcp */
const ipxeNoProxyDhcp = 176
