/** The DHCP answer that tells a machine what to boot: the file of its image for its firmware. */
import type { Loaders } from '../boot/loaders.ts'
import { asNetimageError, type NetimageError } from '../errors.ts'
import { firmwareOf } from '../firmware.ts'
import type { BootAnswer, NoBoot } from '../protocols/dhcp/boot-fields.ts'
import type { Machine } from '../protocols/dhcp/machine.ts'
import type { DhcpServerOptions } from '../protocols/dhcp/server.ts'
import type { Defaults } from './defaults.ts'
import { nothingToBoot, type Gate } from './gate.ts'
import type { Identities } from './identity.ts'

const isRunning = 'another machine with the same hardware address uses the root'

export interface BootForSettings {
  gate: Gate
  defaults: Pick<Defaults, 'learnProcessor'>
  identities: Pick<Identities, 'isRunning'>
  /** Of the TFTP server. */
  address: string
  onError: (error: NetimageError) => void
}

/** Answers a machine that asks DHCP what to boot. The answer may begin an attempt. */
export function createBootFor(settings: BootForSettings): DhcpServerOptions['bootFor'] {
  const { gate, defaults, identities, address, onError } = settings
  return async (machine, asks) => {
    const { mac } = machine
    const [architecture] = machine.architectures
    const isPi = machine.bootClient === 'raspberry-pi'
    const processor = isPi ? 'raspberry-pi' : architecture
    if (identities.isRunning(mac)) return { reason: isRunning }
    if (processor !== undefined) defaults.learnProcessor(mac, processor)
    try {
      const booted = await gate.enter(mac, asks)
      if (!booted) return { reason: nothingToBoot(mac).message }
      const answer = bootAnswer(machine, booted.system.loaders, address)
      if ('reason' in answer && machine.bootClient !== undefined) gate.lacksFile(mac)
      return answer
    } catch (error) {
      const known = asNetimageError(error)
      onError(known)
      return { reason: known.message }
    }
  }
}

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
