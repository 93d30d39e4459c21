/** The ports that machines must reach. */
import type { ServePorts } from '../serve/request.ts'

export interface Service {
  name: 'DHCP' | 'TFTP' | 'HTTP' | 'NFS' | 'MOUNT' | 'the port mapper'
  transport: 'tcp' | 'udp'
  port: number
  /** Whether several programs may have the port. */
  isShared: boolean
  /** The flag of `serve` without which the port is not needed, as a command. */
  instead: string | undefined
}

export interface ServiceSettings {
  dhcp: 'proxy' | 'full' | 'off'
  ports: ServePorts
}

export function servicesOf({ dhcp, ports }: ServiceSettings): Service[] {
  const withoutDhcp = 'netimage serve --dhcp off (another server then tells machines what to boot)'
  const dhcpPorts = { proxy: [67, 4011], full: [67], off: [] }[dhcp]
  const nfsPort = 'netimage serve --nfs-port PORT (if all mounts name their port)'
  const noMapper = 'netimage serve --no-port-mapper (if all mounts name their port)'
  const mapper = { name: 'the port mapper', isShared: false, instead: noMapper } as const
  return [
    ...dhcpPorts.map((port): Service => {
      return { name: 'DHCP', transport: 'udp', port, isShared: port === 67, instead: withoutDhcp }
    }),
    {
      ...{ name: 'TFTP', transport: 'udp', port: ports.tftp, isShared: false },
      instead: 'netimage serve --tftp-port PORT',
    },
    {
      ...{ name: 'HTTP', transport: 'tcp', port: ports.http, isShared: false },
      instead: 'netimage serve --http-port PORT',
    },
    { name: 'NFS', transport: 'tcp', port: ports.nfs, isShared: false, instead: nfsPort },
    { name: 'MOUNT', transport: 'udp', port: ports.nfs, isShared: false, instead: nfsPort },
    ...(ports.portMapper === undefined
      ? []
      : ([
          { ...mapper, transport: 'tcp', port: ports.portMapper },
          { ...mapper, transport: 'udp', port: ports.portMapper },
        ] as const)),
  ]
}
