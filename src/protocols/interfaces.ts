/** Finds the interface and the address of this machine to serve on. */
import { networkInterfaces } from 'node:os'

import { NetimageError } from '../errors.ts'
import { parseNetwork, type Network } from '../ipv4.ts'

export interface ServedInterface {
  name: string
  address: string
  /** Undefined while no cable is connected. */
  network: Network | undefined
}

export interface WantedInterface {
  interface?: string | undefined
  address?: string | undefined
}

/** An IPv4 address of this machine. */
export interface OwnAddress {
  /** The interface, without the label that an address may have (`eth0:1`). */
  name: string
  address: string
  /**
   * Undefined if the address has no network (prefix 32), as with tunnels; then only routes tell.
   */
  network: Network | undefined
  internal: boolean
}

export function ownAddresses(
  all: ReturnType<typeof networkInterfaces> = networkInterfaces(),
): OwnAddress[] {
  return Object.entries(all).flatMap(([label, addresses = []]) =>
    addresses.flatMap(({ family, address, cidr, internal }) => {
      if (family !== 'IPv4') return []
      const isNetwork = cidr !== null && !cidr.endsWith('/32')
      const network = isNetwork ? parseNetwork(cidr) : undefined
      return [{ name: label.replace(/:.*$/, ''), address, network, internal }]
    }),
  )
}

/**
 * @returns the wanted interface; if none is wanted, the only one besides loopback
 * @throws `NetimageError` `bad-option` if there are several, `cannot-listen` if there is none, which
 *   may change when a cable is connected
 */
export function findInterface(
  wanted: WantedInterface,
  all: ReturnType<typeof networkInterfaces> = networkInterfaces(),
): ServedInterface {
  const addresses = ownAddresses(all)
  const isNamed = wanted.interface !== undefined || wanted.address !== undefined
  const found = addresses
    .filter(
      ({ name, address, internal }) =>
        (wanted.interface ?? name) === name &&
        (wanted.address ?? address) === address &&
        (isNamed || !internal),
    )
    .map(({ name, address, network }): ServedInterface => ({ name, address, network }))
  const [first, ...more] = found
  if (first && more.length === 0) return first
  // Node lists only interfaces whose cable is connected to a running device. If both interface and
  // address are named, we accept them; listening fails later if they do not exist.
  const { interface: name, address } = wanted
  if (!first && name !== undefined && address !== undefined) {
    return { name, address, network: undefined }
  }
  const list = (found.length > 0 ? found : addresses).map(
    ({ name, address }) => `${address} (${name})`,
  )
  const what = [wanted.interface, wanted.address]
    .filter((part) => part !== undefined)
    .join(' with ')
  throw new NetimageError(
    found.length > 0 ? 'bad-option' : 'cannot-listen',
    found.length > 0
      ? `there are several addresses to serve on: ${list.join(', ')}`
      : `this machine has no interface ${what || 'with an IPv4 address'}`,
    {
      hint: `Name one with --listen: ${list.join(', ') || 'there is none with IPv4'}. If no cable is connected, give --interface NAME as well, and --network with --dhcp full.`,
    },
  )
}
