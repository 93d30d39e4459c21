// Machines with names that a test chooses, on a network without a table of neighbours.

import type { Caller } from '../../../src/protocols/rpc/program.ts'
import { createIdentities, type Identities } from '../../../src/serve/identity.ts'

/**
 * @param macs hardware addresses by IP address
 * @param now milliseconds
 */
export function identitiesOf(
  macs: Record<string, string> = {},
  now: () => number = () => performance.now(),
): Identities {
  return createIdentities({
    ...{ allowed: 'any', now },
    neighbours: {
      macOf: (address) => macs[address],
      isSilent: () => false,
      hasTable: () => false,
      isUnreadable: () => false,
    },
    isNeighbour: () => true,
    onDouble: () => {},
  })
}

const callers = new Map<string, Caller>()

/** The other end of a connection, the same until `callerLeaves`. */
export function callerAt(address: string): Caller {
  const known = callers.get(address) ?? { address, transport: 'tcp' }
  callers.set(address, known)
  return known
}

/** @returns the other end of the connection that ends */
export function callerLeaves(address: string): Caller {
  const caller = callerAt(address)
  callers.delete(address)
  return caller
}
