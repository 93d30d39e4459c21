/** The addresses that a full DHCP server gives, and the checks before it starts. */
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
  /** Must lie in `network`. */
  range: AddressRange
  /** Hardware address (lower case with colons) to IPv4 address; must lie in `network`. */
  reservations: ReadonlyMap<string, string>
  /**
   * Reservations that can change while the server runs. Those that it cannot keep are told, and left out. The
   * map is the same one until it changes.
   */
  reservedLater?: () => ReadonlyMap<string, string>
  told: NetworkFacts
  /** The host name that the machine with a hardware address is told. [RFC 2132 §3.14] */
  hostNameOf?: (mac: string) => string | undefined
  /** SQLite database; created if it is missing. */
  leasesFile: string
  /** Start even if another DHCP server answers. */
  force: boolean
}

/** Facts about the network that machines are told together with their address. */
export interface NetworkFacts {
  /** IPv4 addresses of the network, the best first. */
  routers: readonly string[]
  /** IPv4 addresses, the best first. */
  nameServers: readonly string[]
  domain?: string | undefined
}

/** For each unknown machine the server may look at every address of the range. */
const maxRangeSize = 4096

/**
 * @param own this machine's addresses
 * @returns the addresses that no machine may have: `own`, the network address, the broadcast
 *   address, and the addresses of routers and name servers
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
    'Give addresses of the network that the machines are on: see --network and --range.',
  )
  refuseOutside(
    told.routers,
    'Give the address that the router has on the network of the machines.',
  )
  const size = parseAddress(range.last) - parseAddress(range.first) + 1
  if (size < 1 || size > maxRangeSize) {
    const name = `${range.first}-${range.last}`
    throw new NetimageError('bad-option', `the range ${name} has ${size} addresses`, {
      hint: `Give a range of 1 to ${maxRangeSize} addresses.`,
    })
  }
  const first = parseAddress(network.address)
  const broadcast = formatAddress(first + 2 ** (32 - network.prefix) - 1)
  const excluded = [...own, network.address, broadcast, ...told.routers, ...told.nameServers]
  refuseTwice(reservations, new Set(excluded))
  return excluded
}

/**
 * @param excluded the addresses that no machine may have
 * @param onError is told once about each reservation that cannot be kept
 * @returns all reservations as they are now; the same map until they change
 */
export function reservationsNow(
  { network, reservations, reservedLater }: AddressSettings,
  excluded: readonly string[],
  onError: (error: NetimageError) => void,
): () => ReadonlyMap<string, string> {
  if (!reservedLater) return () => reservations
  const told = new Set<string>()
  let later: ReadonlyMap<string, string> | undefined
  let all = reservations
  return () => {
    const now = reservedLater()
    if (now === later) return all
    later = now
    const taken = new Set([...excluded, ...reservations.values()])
    const kept = new Map(reservations)
    for (const [mac, address] of now) {
      // What a person gave the server itself comes first.
      const reserved = reservations.get(mac)
      if (reserved === address) continue
      const why = whyNot(address, reserved, taken, network)
      if (why === undefined) {
        taken.add(address)
        kept.set(mac, address)
        continue
      }
      const problem = `${mac} cannot have the address ${address} of the site’s file: ${why}`
      if (told.has(problem)) continue
      told.add(problem)
      onError(
        new NetimageError('bad-option', problem, {
          details: { field: 'address' },
          hint:
            reserved === undefined
              ? 'Give it another address in the file of the site, and apply this. Until then, it gets an address of --range.'
              : 'Remove the address of the machine from the file of the site, or from --reserve.',
        }),
      )
    }
    all = kept
    return all
  }
}

/** Why a machine cannot have the address of the site's file. */
function whyNot(
  address: string,
  reserved: string | undefined,
  taken: ReadonlySet<string>,
  network: Network,
): string | undefined {
  if (reserved !== undefined) return `--reserve gives it ${reserved}`
  if (!isInNetwork(address, network)) {
    return `it is not in the network ${network.address}/${network.prefix}`
  }
  return taken.has(address) ? 'it is used already' : undefined
}

function refuseTwice(reservations: ReadonlyMap<string, string>, taken: Set<string>): void {
  for (const [mac, address] of reservations) {
    if (taken.has(address)) {
      const problem = `${mac} cannot have the address ${address}, which is used already`
      throw new NetimageError('bad-option', problem, {
        hint: 'Reserve an address that no other machine, this machine, a router or a name server has.',
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
      hint: 'Serve beside that server (--dhcp proxy), or switch it off. If both give different addresses, start with --force.',
    },
  )
}
