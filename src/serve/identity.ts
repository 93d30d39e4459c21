/**
 * Finds the name of a machine.
 *
 * A machine is named by its hardware address. Protocols above IP do not carry that address. So when
 * a connection or a transfer begins, the IP address is looked up:
 *
 * - first in the kernel's current table of neighbours, for the interface that is served;
 * - then in the last known hardware address, from that table or from a lease of our own DHCP;
 * - if the address is in a network whose neighbours the kernel knows, the name is not known yet
 *   (`undefined`). The machine must then ask again, because it could be any machine. The same holds for
 *   all neighbours while the table cannot be read;
 * - on other networks (behind a router, in a tunnel, on this machine itself), the machine has the
 *   hardware address that an earlier run of the server knew, or is named by its IP address.
 *
 * A machine that `--allow` names only by its IP address is named by that address. If the file of the site gives
 * a machine several hardware addresses, its name is always the same one of them.
 *
 * A connection keeps its name until it ends. A name belongs to one IP address as long as that
 * address has connections (see holders.ts).
 */
import { isIPv4 } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'

import type { NetimageError } from '../errors.ts'
import { remember } from '../remember.ts'
import type { ServeEvent } from '../protocols/event.ts'
import type { Caller } from '../protocols/rpc/program.ts'
import { askAgain } from './ask-again.ts'
import type { Declared } from './declared.ts'
import { createHolders } from './holders.ts'
import type { Neighbours } from './neighbours.ts'
import type { Double } from './tell-doubles.ts'

/** Hardware and IP addresses, in lower case; `any`: all machines. */
export type Allowed = ReadonlySet<string> | 'any'

export interface IdentitySettings {
  allowed: Allowed
  neighbours: Neighbours
  /** Default: each hardware address is a machine of its own. */
  declared?: Pick<Declared, 'machineOf' | 'cardsOf'>
  /** Whether an address is of another machine on the network that is served. */
  isNeighbour: (address: string) => boolean
  /** Hardware addresses by IP address, as an earlier run of the server knew them. */
  learntAddresses?: ReadonlyMap<string, string>
  /** Called if an IP address has another hardware address than before. */
  onAddress?: (address: string, mac: string) => void
  /** Called at each call from a second IP address with the name of a machine that is served. */
  onDouble: (double: Double) => void
  /** Milliseconds. */
  now?: () => number
}

export interface Identities {
  /** The name of the machine that has a hardware address. */
  machineOf(mac: string): string
  /** @returns the name of the machine that has the address; undefined: not known yet */
  nameAt(address: string): string | undefined
  /**
   * The name under which something is told of a machine: if the name is not known now, the last known one, or
   * else the address. A machine must get nothing by this name.
   */
  toldNameAt(address: string): string
  /** As `nameAt`, but reads the table of neighbours once more if the name is not known yet. */
  nameSoon(address: string): Promise<string | undefined>
  /**
   * The name of the machine at the other end of a connection, or that sent a datagram.
   *
   * @returns undefined if the name is not known yet, if another IP address has the name now, or if
   *   the connection has ended: the machine must ask again
   */
  nameOf(caller: Caller): string | undefined
  /** Gives a new connection its name, if the name is known. The machine does not hold it yet. */
  enters: (caller: Caller) => void
  /** Whether the caller has the name of another machine, which is alive. */
  isSecond(caller: Caller): boolean
  /**
   * To be called when a machine asks DHCP what to boot.
   *
   * @returns whether another machine with the same hardware address is alive
   */
  isRunning(mac: string): boolean
  /** To be called when a connection has ended. */
  leaves: (caller: Caller) => void
  /** Whether a machine has connections, besides the one that is named. */
  isConnected(name: string, besides?: Caller): boolean
  /** Whether a machine has called in the last seconds. */
  isActive(name: string): boolean
  /** The IP address of the machine with this name, if it is known. */
  addressOf(name: string): string | undefined
  /** Our own DHCP gave the address to the machine. */
  learnAddress(mac: string, address: string): void
  /** Whether the machine with this name is to be served. */
  isAllowed: (name: string) => boolean
  /** Whether the machine is served because a person named it, and not because all machines are. */
  isNamed: (name: string) => boolean
}

export function createIdentities(settings: IdentitySettings): Identities {
  const { allowed, neighbours, isNeighbour, onDouble, learntAddresses, onAddress } = settings
  const { now = () => performance.now(), declared = eachItsOwn } = settings
  const { machineOf } = declared
  /** Last known hardware address by IP address. The kernel forgets machines that are silent. */
  const last = new Map<string, string>()
  const names = new WeakMap<Caller, string>()
  /** Callers whose connections have ended. Their last requests may be handled after that. */
  const gone = new WeakSet<Caller>()
  const holders = createHolders((address) => neighbours.isSilent(address), now)

  const isAllowed = (name: string) =>
    allowed === 'any' || declared.cardsOf(machineOf(name)).some((each) => allowed.has(each))

  function nameAt(address: string): string | undefined {
    // Another machine may have got the address, and only the table could tell.
    if (neighbours.isUnreadable() && isNeighbour(address)) return undefined
    const found = neighbours.macOf(address)
    // Addresses that strangers forge are not remembered, so that they displace no machine.
    if (found !== undefined && isAllowed(found)) learn(address, found)
    const mac = found ?? last.get(address)
    if (mac !== undefined) return isNamedByAddress(mac, address) ? address : machineOf(mac)
    if (neighbours.hasTable() && isNeighbour(address)) return undefined
    // Not for a neighbour: another machine may have got the address while the server was off.
    const before = learntAddresses?.get(address)
    if (before === undefined || isNamedByAddress(before, address)) return address
    return machineOf(before)
  }

  function learn(address: string, mac: string): void {
    const before = last.get(address) ?? learntAddresses?.get(address)
    if (before !== mac) onAddress?.(address, mac)
    remember(last, address, mac)
  }

  function isNamedByAddress(mac: string, address: string): boolean {
    return allowed !== 'any' && allowed.has(address) && !isAllowed(mac)
  }

  function tellDouble(name: string, second: string | undefined): void {
    const first = holders.addressOf(name)
    if (first !== undefined && isAllowed(name)) onDouble({ name, first, second })
  }

  function nameOfDatagram({ address }: Caller): string | undefined {
    const name = nameAt(address)
    if (name === undefined || holders.otherThan(name, address) === undefined) return name
    tellDouble(name, address)
    return undefined
  }

  return {
    machineOf,
    isAllowed,
    isNamed: (name) => allowed !== 'any' && isAllowed(name),
    nameAt,
    toldNameAt(address) {
      const mac = last.get(address)
      const isByMac = mac !== undefined && !isNamedByAddress(mac, address)
      return nameAt(address) ?? (isByMac ? machineOf(mac) : address)
    },
    async nameSoon(address) {
      const name = nameAt(address)
      if (name !== undefined) return name
      // The address may have come into the table after the table was read in this turn.
      await turn()
      return nameAt(address)
    },
    nameOf(caller) {
      if (caller.transport === 'udp') return nameOfDatagram(caller)
      // A connection that has ended must not hold a name: nothing would release the name.
      if (gone.has(caller)) return undefined
      const name = names.get(caller) ?? nameAt(caller.address)
      if (name === undefined) return undefined
      names.set(caller, name)
      if (holders.hold(name, caller)) return name
      tellDouble(name, caller.address)
      return undefined
    },
    enters(caller) {
      const name = nameAt(caller.address)
      if (name !== undefined) names.set(caller, name)
    },
    isSecond(caller) {
      const name = names.get(caller) ?? nameAt(caller.address)
      return name !== undefined && holders.isAlive(name, caller.address)
    },
    addressOf(name) {
      if (isIPv4(name)) return name
      const own = holders.addressOf(name)
      return own ?? [...last].findLast(([, mac]) => machineOf(mac) === name)?.[0]
    },
    isRunning(mac) {
      const name = machineOf(mac)
      if (!holders.isAlive(name, undefined)) return false
      tellDouble(name, undefined)
      return true
    },
    leaves(caller) {
      gone.add(caller)
      const name = names.get(caller)
      if (name !== undefined) holders.leave(name, caller)
    },
    isConnected: (name, besides) => holders.isHeld(name, besides),
    isActive: (name) => holders.isActive(name),
    learnAddress: (mac, address) => learn(address, mac),
  }
}

const eachItsOwn: Pick<Declared, 'machineOf' | 'cardsOf'> = {
  machineOf: (mac) => mac,
  cardsOf: (machine) => [machine],
}

/** The name of the machine at an address is not known yet, so that it must ask again. */
export function notKnown(address: string): NetimageError {
  return askAgain(`the machine that has the address ${address} is not known yet`, address)
}

/** Learns from our own DHCP which address it gave to which machine. */
export function learnGiven(
  { learnAddress }: Pick<Identities, 'learnAddress'>,
  event: ServeEvent,
): void {
  if (event.kind !== 'dhcp' || event.proxy || event.step !== 'acknowledge') return
  const { mac, address } = event
  if (mac !== undefined && address !== undefined) learnAddress(mac, address)
}
