/** Whether machines look for their root on this server: the image has the server's address. */
import { isIP } from 'node:net'

import { NetimageError } from '../errors.ts'
import type { SettledOptions } from '../image/options.ts'
import { parseNfsRoot } from '../nixos/nfs-root.ts'
import { ownAddresses, type ServedInterface } from '../protocols/interfaces.ts'
import type { DhcpMode } from '../serve/request.ts'
import { mustBeServable } from '../site/images/servable.ts'
import { findingOf, type DoctorFinding } from './finding.ts'
import { addressesOf, isLoopback } from './name-addresses.ts'

export interface RootSettings {
  /** The path of the image, for messages. */
  image: string
  options: SettledOptions
  dhcp: DhcpMode
  /** Whether name servers are asked for the name in nfsRoot, which may take long. */
  asksNames: boolean
}

export async function examineRoot(
  { image, options, dhcp, asksNames }: RootSettings,
  { address }: Pick<ServedInterface, 'address'>,
): Promise<DoctorFinding[]> {
  const versions = examineVersion(options, image)
  const { server, path, text } = parseNfsRoot(options.nfsRoot)
  const build = `netimage build … --nfs-root ${address}:${path},v3`
  const isWrong = (message: string, fix = build): DoctorFinding[] => [
    ...versions,
    { code: 'nfs-root', level: 'error', message, fix },
  ]
  if (server === undefined) {
    if (dhcp === 'full') return versions
    const message = `the nfsRoot of ${image}, ${text}, names no server: machines mount their root from the server that gives them their address, and with --dhcp ${dhcp} this is another one`
    return [...versions, { code: 'nfs-root', level: 'warning', message, fix: build }]
  }
  if (isIP(server) === 0 && !asksNames) return versions
  const addresses = await addressesOf(server)
  if (addresses.includes(address)) return versions
  const seen = isIP(server) === 0 ? addresses.filter((each) => !isLoopback(each)) : addresses
  if (seen.length === 0) {
    const why =
      addresses.length === 0
        ? 'this computer does not know an address of the name'
        : `on this computer, the name means ${addresses.join(' and ')}, which no machine can reach`
    const message = `cannot tell whether ${server} in the nfsRoot of ${image} is this computer: ${why}`
    const finding = { code: 'nfs-root', level: 'note', message, fix: build } as const
    return [...versions, finding]
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
