/** The DHCP answer that tells a machine what to boot: the file of its image for its firmware. */
import type { Loaders } from '../boot/loaders.ts'
import { firmwareOf } from '../firmware.ts'
import type { BootAnswer, NoBoot } from '../protocols/dhcp/boot-fields.ts'
import type { Machine } from '../protocols/dhcp/machine.ts'

/** @param server the address of the TFTP server */
export function bootAnswer(
  { architectures: [architecture = 0], bootClient: client }: Machine,
  loaders: Loaders,
  server: string,
): BootAnswer | NoBoot {
  const fileOr = (file: string | undefined, reason: string): BootAnswer | NoBoot =>
    file === undefined || client === undefined ? { reason } : { client, server, file }
  switch (client) {
    case 'ipxe':
      return fileOr(
        loaders.ipxe ?? firmwareFile(loaders, architecture),
        'the image has no script for iPXE: build it with --boot ipxe',
      )
    case 'pxe':
      return fileOr(
        firmwareFile(loaders, architecture),
        `the image has no loader for PXE on architecture ${architecture}`,
      )
    case 'http':
      return fileOr(
        firmwareOf(architecture)?.startsWith('http')
          ? firmwareFile(loaders, architecture)
          : undefined,
        `the image has no loader for HTTP on architecture ${architecture}`,
      )
    case 'raspberry-pi':
      return loaders.raspberryPi
        ? { client, server }
        : { reason: 'the image has no config.txt: build it with --boot raspberry-pi' }
    case 'u-boot':
      return { client, server }
    case undefined:
      return { reason: 'the machine does not ask for a boot file' }
  }
}

function firmwareFile(loaders: Loaders, architecture: number): string | undefined {
  const firmware = firmwareOf(architecture)
  return firmware && loaders[firmware]
}
