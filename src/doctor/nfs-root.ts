/** Whether machines look for their root on this server: the image has the server's address and port. */
import { isIP } from 'node:net'

import { NetimageError } from '../errors.ts'
import type { SettledOptions } from '../image/options.ts'
import { parseNfsRoot, type NfsRoot } from '../nixos/nfs-root.ts'
import { ownAddresses, type ServedInterface } from '../protocols/interfaces.ts'
import type { ServePorts } from '../serve/request.ts'
import { mustBeServable } from '../site/images/servable.ts'
import { findingOf, type DoctorFinding } from './finding.ts'
import { addressesOf, isLoopback } from './name-addresses.ts'
import type { ServiceSettings } from './services.ts'

export interface RootSettings extends ServiceSettings {
  /** The path of the image, for messages. */
  image: string
  options: SettledOptions
  /** Whether name servers are asked for the name in nfsRoot, which may take long. */
  asksNames: boolean
}

export async function examineRoot(
  { image, options, dhcp, ports, asksNames }: RootSettings,
  { address }: Pick<ServedInterface, 'address'>,
): Promise<DoctorFinding[]> {
  const root = parseNfsRoot(options.nfsRoot)
  const { server, text } = root
  const build = `netimage build … --nfs-root ${address}:${root.path},${mountOptions(root, ports)}`
  const others = [
    ...examineVersion(options, image),
    ...examineNamedPorts(root, ports, image, build),
  ]
  const isWrong = (message: string, fix = build): DoctorFinding[] => [
    ...others,
    { code: 'nfs-root', level: 'error', message, fix },
  ]
  if (server === undefined) {
    if (dhcp === 'full') return others
    const message = `the nfsRoot of ${image}, ${text}, names no server: machines mount their root from the server that gives them their address, and with --dhcp ${dhcp} this is another one`
    return [...others, { code: 'nfs-root', level: 'warning', message, fix: build }]
  }
  if (isIP(server) === 0 && !asksNames) return others
  const addresses = await addressesOf(server)
  if (addresses.includes(address)) return others
  const seen = isIP(server) === 0 ? addresses.filter((each) => !isLoopback(each)) : addresses
  if (seen.length === 0) {
    const why =
      addresses.length === 0
        ? 'this computer does not know an address of the name'
        : `on this computer, the name means ${addresses.join(' and ')}, which no machine can reach`
    const message = `cannot tell whether ${server} in the nfsRoot of ${image} is this computer: ${why}`
    const finding = { code: 'nfs-root', level: 'note', message, fix: build } as const
    return [...others, finding]
  }
  const shown = seen.join(' and ')
  const named = shown === server ? server : `${server} (${shown})`
  if (seen.every(isLoopback)) {
    return isWrong(
      `the nfsRoot of ${image} names ${named}, by which each machine means itself: no machine would find its root`,
    )
  }
  const own = ownAddresses().find((each) => seen.includes(each.address))
  if (!own) {
    return isWrong(
      `machines would mount the root of ${image} from ${named}, but this computer would serve it on ${address}`,
    )
  }
  return isWrong(
    `machines would mount the root of ${image} from ${named} (the interface ${own.name} of this computer), but the server would serve it only on ${address}`,
    `netimage serve --listen ${own.address}`,
  )
}

function examineVersion(options: SettledOptions, image: string): DoctorFinding[] {
  try {
    mustBeServable(options, image)
    return []
  } catch (error) {
    if (error instanceof NetimageError) return [findingOf('nfs-version', error)]
    throw error
  }
}

/** The options of nfs(5) that name the ports of the server; without them, machines ask its port mapper. */
const portNames = ['port', 'mountport'] as const

function examineNamedPorts(
  { text, options }: NfsRoot,
  ports: ServePorts,
  image: string,
  fix: string,
): DoctorFinding[] {
  const wrong = portNames.flatMap((name) => {
    const named = options.findLast((option) => option.startsWith(`${name}=`))
    if (named === undefined) return ports.portMapper === undefined ? [`does not name ${name}`] : []
    return named === `${name}=${ports.nfs}` ? [] : [`has ${named}`]
  })
  if (wrong.length === 0) return []
  const mapper = ports.portMapper === undefined ? ', and there is no port mapper to ask' : ''
  const message = `machines would not find NFS: the nfsRoot of ${image}, ${text}, ${wrong.join(' and ')}, but the server would have NFS at port ${ports.nfs}${mapper}`
  return [{ code: 'nfs-root', level: 'error', message, fix }]
}

/** The mount options with which machines find this server. */
function mountOptions({ options }: NfsRoot, ports: ServePorts): string {
  const isPort = (option: string) => portNames.some((name) => option.startsWith(`${name}=`))
  const isNamed = ports.portMapper === undefined || options.some(isPort)
  const named = isNamed ? portNames.map((name) => `${name}=${ports.nfs}`) : []
  return ['v3', ...options.filter((option) => !isPort(option)), ...named].join(',')
}
