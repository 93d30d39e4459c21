/** The flags that say where `serve` serves: `doctor` has them too. */
import { Option } from '@commander-js/extra-typings'

import type { ServePorts } from '../serve/request.ts'
import { parsePort } from './serve-flags.ts'

export const dhcpOption = new Option(
  '--dhcp <mode>',
  'beside the network’s DHCP server, as its only DHCP server, or not at all',
)
  .choices(['proxy', 'full', 'off'] as const)
  .default('proxy' as const)

export const listenOption = new Option(
  '--listen <address>',
  'the address to serve on (default: the address of the machine, if it has only one)',
)

export const interfaceOption = new Option('--interface <name>', 'the network interface to serve on')

export const tftpPortOption = new Option('--tftp-port <port>', 'another port for TFTP')
  .argParser(parsePort)
  .default(69)

export const httpPortOption = new Option('--http-port <port>', 'another port for HTTP')
  .argParser(parsePort)
  .default(80)

export const nfsPortOption = new Option('--nfs-port <port>', 'another port for NFS')
  .argParser(parsePort)
  .default(2049)

export const noPortMapperOption = new Option(
  '--no-port-mapper',
  'serve no port mapper: clients get the port of NFS from their mount options',
)

const portMapperPort = 111

export interface PortFlags {
  tftpPort: number
  httpPort: number
  nfsPort: number
  portMapper: boolean
}

export function portsOf({ tftpPort, httpPort, nfsPort, portMapper }: PortFlags): ServePorts {
  return {
    tftp: tftpPort,
    http: httpPort,
    nfs: nfsPort,
    portMapper: portMapper ? portMapperPort : undefined,
  }
}
