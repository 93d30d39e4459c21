/** How firmware wants to hear what it is to boot. */
import { architectures, raspberryPiVendorOptions } from '../../firmware.ts'
import type { BootClient, Machine } from './machine.ts'
import { byteValue, encloseOptions, option } from './options.ts'
import type { DhcpPacket } from './packet.ts'

export interface BootAnswer {
  client: BootClient
  /** The address of the TFTP server. */
  server: string
  /**
   * A file of the boot tree, or a URL. What a Raspberry Pi and U-Boot ask for does not depend on
   * what they are told.
   */
  file?: string
}

/** Why there is nothing for a machine. */
export interface NoBoot {
  reason: string
}

/** Who tells it: the server that gives the address, or one beside it, on either of its ports. */
export type Teller = 'address-server' | 'proxy' | 'proxy-4011'

/** The fields and options of a packet that tell a machine what to boot. */
export type BootFields = Pick<DhcpPacket, 'nextServer' | 'file' | 'options'>

/** One of PXE's options, in option 43. Intel's PXE specification 2.1, section 2.2.2 */
const discoveryControl = 6
/** Take the file of this packet: no menu, and no search for boot servers. */
const takeTheFile = 8

export function bootFields(answer: BootAnswer, teller: Teller, machine: Machine): BootFields {
  const { client, server, file = '' } = answer
  const isProxy = teller !== 'address-server'
  const options = new Map<number, Buffer>()
  // Nobody listens to a proxyDHCP server that does not call itself that.
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
      // UEFI asks on port 4011, whatever the offer has; some versions fail where it has a file.
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

/** With the zero at its end it fills the field. */
const maxHeaderFile = 127

/** There is no proxyDHCP server to wait for. https://ipxe.org/cfg/no-pxedhcp */
const ipxeNoProxyDhcp = 176
