/** The ports that machines must reach. */
import type { DhcpMode, ServePorts } from '../serve/request.ts'

export interface Service {
  name: 'DHCP' | 'TFTP' | 'HTTP' | 'NFS' | 'MOUNT' | 'the port mapper'
  transport: 'tcp' | 'udp'
  port: number
  /** Whether several programs may have the port. */
  isShared: boolean
  /** The flag of `serve` with which the port is not needed, in a sentence. */
  instead: string
}

/** As in `UDP 69 (TFTP)`. */
export function saysService({ transport, port, name }: Service): string {
  return `${transport.toUpperCase()} ${port} (${name})`
}

export interface ServiceSettings {
  dhcp: DhcpMode
  ports: ServePorts
}

export function servicesOf({ dhcp, ports }: ServiceSettings): Service[] {
  const withoutDhcp = 'Or let another server tell machines what to boot: netimage serve --dhcp off.'
  const dhcpPorts = { proxy: [67, 4011], full: [67], off: [] }[dhcp]
  const ifNamed = 'if the nfsRoot of each image names the port of NFS (port and mountport)'
  const nfsPort = `Or use another port, ${ifNamed}: netimage serve --nfs-port PORT.`
  const noMapper = `Or serve without the port mapper, ${ifNamed}: netimage serve --no-port-mapper.`
  const mapper = { name: 'the port mapper', isShared: false, instead: noMapper } as const
  return [
    ...dhcpPorts.map((port): Service => {
      return { name: 'DHCP', transport: 'udp', port, isShared: port === 67, instead: withoutDhcp }
    }),
    {
      ...{ name: 'TFTP', transport: 'udp', port: ports.tftp, isShared: false },
      instead: 'Or use another port: netimage serve --tftp-port PORT.',
    },
    {
      ...{ name: 'HTTP', transport: 'tcp', port: ports.http, isShared: false },
      instead: 'Or use another port: netimage serve --http-port PORT.',
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
