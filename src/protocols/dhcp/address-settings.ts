/** Which addresses a full DHCP server gives, and whether it may. */
import { NetimageError } from '../../errors.ts'
import {
  formatAddress,
  isInNetwork,
  parseAddress,
  type AddressRange,
  type Network,
} from '../../ipv4.ts'
import { macOf } from './interface.ts'
import { findOtherServer } from './other-server.ts'

export interface AddressSettings {
  network: Network
  /** Of the network. */
  range: AddressRange
  /** IPv4 addresses of the network by hardware address (lower case with colons). */
  reservations: ReadonlyMap<string, string>
  told: NetworkFacts
  /** SQLite; made where it is missing. */
  leasesFile: string
  /** Start even where another DHCP server answers. */
  force: boolean
}

/** What machines are told of the network beside their address. */
export interface NetworkFacts {
  /** IPv4 addresses of the network, the best first. */
  routers: readonly string[]
  /** IPv4 addresses, the best first. */
  nameServers: readonly string[]
  domain?: string | undefined
}

/** Unknown machines make us look at all of it. */
const maxRangeSize = 4096

/**
 * @param own this machine's addresses
 * @returns the addresses that no machine may have: these, the network's own, that for broadcasts, and
 *   those of routers and name servers
 * @throws `NetimageError` `bad-option`
 */
export function checkAddresses(
  { network, range, reservations, told }: AddressSettings,
  own: readonly string[],
): string[] {
  const refuseOutside = (addresses: Iterable<string>, hint: string) => {
    for (const address of addresses) {
      if (isInNetwork(address, network)) continue
      const name = `${network.address}/${network.prefix}`
      throw new NetimageError('bad-option', `${address} is not in the network ${name}`, { hint })
    }
  }
  refuseOutside(
    [range.first, range.last, ...reservations.values()],
    'Machines are given addresses of the network that they are on: see --network, --range.',
  )
  refuseOutside(told.routers, 'Machines reach a router by its address on their own network.')
  const size = parseAddress(range.last) - parseAddress(range.first) + 1
  if (size < 1 || size > maxRangeSize) {
    const name = `${range.first}-${range.last}`
    throw new NetimageError('bad-option', `the range ${name} has ${size} addresses`, {
      hint: `It may have 1 to ${maxRangeSize}.`,
    })
  }
  const first = parseAddress(network.address)
  const broadcast = formatAddress(first + 2 ** (32 - network.prefix) - 1)
  const excluded = [...own, network.address, broadcast, ...told.routers, ...told.nameServers]
  refuseTwice(reservations, new Set(excluded))
  return excluded
}

function refuseTwice(reservations: ReadonlyMap<string, string>, taken: Set<string>): void {
  for (const [mac, address] of reservations) {
    if (taken.has(address)) {
      throw new NetimageError('bad-option', `${mac} cannot have ${address}, which is another's`, {
        hint: 'Reserve an address that neither another machine has, nor this one, a router or a name server.',
      })
    }
    taken.add(address)
  }
}

/** @throws `NetimageError` `other-dhcp-server` */
export async function assertAlone(device: string, signal: AbortSignal | undefined): Promise<void> {
  const mac = macOf(device)
  const server = mac && (await findOtherServer(device, mac, signal))
  if (server === undefined) return
  throw new NetimageError(
    'other-dhcp-server',
    `another DHCP server, ${server}, gives addresses on ${device}`,
    {
      hint: 'Serve beside it (--dhcp proxy), switch it off, or force two that share no address.',
    },
  )
}
