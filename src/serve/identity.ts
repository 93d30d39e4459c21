/**
 * Who a machine is.
 *
 * A machine is named by its hardware address. The protocols above IP do not tell it, so an IP
 * address is looked up at the moment at which something begins:
 *
 * - in the kernel's table of neighbours, of the interface that is served, as it is now;
 * - else in what was known of the address last: by that table, or by a lease of our own DHCP;
 * - else nobody can tell yet (`undefined`), if the address is of a network whose neighbours the
 *   kernel knows. The machine must then be asked to come again: any answer would be one to somebody
 *   else. On other networks (behind a router, in a tunnel, on this machine itself) a machine is named
 *   by its IP address.
 *
 * A machine that the person allows by its IP address alone is named by that address.
 *
 * What was found for a connection belongs to the connection until it ends, and a name belongs to one
 * IP address for as long as that has connections: two machines with one hardware address would
 * otherwise write to one root.
 */
import { remember } from '../remember.ts'
import type { Caller } from '../protocols/rpc/program.ts'
import type { Neighbours } from './neighbours.ts'
import type { Double } from './tell-doubles.ts'

/** Hardware and IP addresses, in lower case; `any`: every machine that this one hears. */
export type Allowed = ReadonlySet<string> | 'any'

export interface IdentitySettings {
  allowed: Allowed
  neighbours: Neighbours
  /** Whether an address is of the network that is served, and of another machine than this one. */
  isNeighbour: (address: string) => boolean
  /** Told of each call from a second IP address with the name of a machine that is served. */
  onDouble: (double: Double) => void
}

export interface Identities {
  /** Of the machine that has the address now; undefined: nobody can tell yet. */
  nameAt(address: string): string | undefined
  /** As `nameAt`, but the table of neighbours is looked at once more before nobody can tell. */
  nameSoon(address: string): Promise<string | undefined>
  /**
   * Of the machine at the other end of a connection, or that sent a datagram.
   *
   * @returns undefined if nobody can tell yet, if another IP address has that name now, or if the
   *   connection has ended: the machine must ask again
   */
  nameOf(caller: Caller): string | undefined
  /** The connection has ended. */
  leaves: (caller: Caller) => void
  /** Whether a machine has connections. */
  isConnected(name: string): boolean
  /** A machine starts anew: what it was connected by before is worth nothing, unless it is used. */
  boots(name: string): void
  /** Our own DHCP gave the address to the machine. */
  hasAddress(mac: string, address: string): void
  /** Whether a machine is to be served, by its name. */
  isAllowed: (name: string) => boolean
}

/** Which IP address has a name, and by which connections. */
interface Holder {
  address: string
  callers: Set<Caller>
  /** Whether the machine was seen to start anew since it last called from there. */
  isOver: boolean
}

export function createIdentities(settings: IdentitySettings): Identities {
  const { allowed, neighbours, isNeighbour, onDouble } = settings
  /** Hardware address by IP address, as it was known last. The kernel forgets who is silent. */
  const last = new Map<string, string>()
  const names = new WeakMap<Caller, string>()
  /** Callers whose connections have ended. What they asked for last may be looked at later. */
  const gone = new WeakSet<Caller>()
  const holders = new Map<string, Holder>()

  const isAllowed = (name: string) => allowed === 'any' || allowed.has(name)

  function nameAt(address: string): string | undefined {
    const found = neighbours.macOf(address)
    // What strangers make up is not remembered, lest it take the place of machines.
    if (found !== undefined && isAllowed(found)) remember(last, address, found)
    const mac = found ?? last.get(address)
    if (mac !== undefined) return isNamedByAddress(mac, address) ? address : mac
    return neighbours.areTold() && isNeighbour(address) ? undefined : address
  }

  function isNamedByAddress(mac: string, address: string): boolean {
    return allowed !== 'any' && allowed.has(address) && !allowed.has(mac)
  }

  /** @returns whether the caller's address has the name now */
  function hold(name: string, caller: Caller): boolean {
    const { address } = caller
    let holder = holders.get(name)
    // A connection from an address that its machine gave up lasts for minutes, if an answer is on its way.
    const isLost = (one: Holder) => one.isOver || neighbours.isSilent(one.address)
    if (!holder || (holder.address !== address && isLost(holder))) {
      holder = { address, callers: new Set(), isOver: false }
      holders.set(name, holder)
    }
    if (holder.address !== address) {
      if (isAllowed(name)) onDouble({ name, first: holder.address, second: address })
      return false
    }
    holder.callers.add(caller)
    holder.isOver = false
    return true
  }

  return {
    isAllowed,
    nameAt,
    async nameSoon(address) {
      const name = nameAt(address)
      if (name !== undefined) return name
      // It may have come into the table since that was read in this turn.
      await new Promise((resolve) => void setImmediate(resolve))
      return nameAt(address)
    },
    nameOf(caller) {
      if (caller.transport === 'udp') return nameAt(caller.address)
      // Nothing would take the name away from it again.
      if (gone.has(caller)) return undefined
      const name = names.get(caller) ?? nameAt(caller.address)
      if (name === undefined) return undefined
      names.set(caller, name)
      return hold(name, caller) ? name : undefined
    },
    leaves(caller) {
      gone.add(caller)
      const name = names.get(caller)
      const holder = name === undefined ? undefined : holders.get(name)
      if (name === undefined || !holder?.callers.delete(caller)) return
      if (holder.callers.size === 0) holders.delete(name)
    },
    isConnected: (name) => holders.has(name),
    boots(name) {
      const holder = holders.get(name)
      if (holder) holder.isOver = true
    },
    hasAddress: (mac, address) => remember(last, address, mac),
  }
}
