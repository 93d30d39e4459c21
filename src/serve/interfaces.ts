/** On which interface and address of this machine is served. */
import { networkInterfaces } from 'node:os'

import { NetimageError } from '../errors.ts'
import { parseNetwork, type Network } from '../ipv4.ts'

export interface ServedInterface {
  name: string
  address: string
  /** Unknown while nothing is plugged in. */
  network: Network | undefined
}

export interface WantedInterface {
  interface?: string | undefined
  address?: string | undefined
}

/**
 * The one that is wanted; the only one that there is besides loopback, where none is.
 *
 * @throws `NetimageError` `bad-option`
 */
export function findInterface(
  wanted: WantedInterface,
  all: ReturnType<typeof networkInterfaces> = networkInterfaces(),
): ServedInterface {
  const found: ServedInterface[] = []
  for (const [name, addresses = []] of Object.entries(all)) {
    for (const { family, address, cidr, internal } of addresses) {
      if (family !== 'IPv4' || cidr === null) continue
      const isWanted =
        (wanted.interface ?? name) === name && (wanted.address ?? address) === address
      const isNamed = wanted.interface !== undefined || wanted.address !== undefined
      if (isWanted && (isNamed || !internal)) {
        found.push({ name, address, network: parseNetwork(cidr) })
      }
    }
  }
  const [first, ...more] = found
  if (first && more.length === 0) return first
  // Node only knows interfaces whose cable is plugged in at both ends: whoever names both parts of
  // one is believed, and what does not exist cannot be listened on.
  const { interface: name, address } = wanted
  if (!first && name !== undefined && address !== undefined) {
    return { name, address, network: undefined }
  }
  const list = (found.length > 0 ? found : allAddresses(all)).map(
    ({ name, address }) => `${address} (${name})`,
  )
  const what = [wanted.interface, wanted.address]
    .filter((part) => part !== undefined)
    .join(' with ')
  throw new NetimageError(
    'bad-option',
    found.length > 0
      ? `there are several addresses to serve on: ${list.join(', ')}`
      : `this machine has no interface ${what}`,
    {
      hint: `Name one with --listen: ${list.join(', ') || 'there is none with IPv4'}. One that nothing is plugged into takes --interface as well.`,
    },
  )
}

function allAddresses(all: ReturnType<typeof networkInterfaces>) {
  return Object.entries(all).flatMap(([name, addresses = []]) =>
    addresses.filter(({ family }) => family === 'IPv4').map(({ address }) => ({ name, address })),
  )
}
