/** The neighbours on the network that is served, from the kernel's ARP table. */
import { isInNetwork } from '../ipv4.ts'
import { parseArpTable, readArpTable, type ArpTable } from '../protocols/arp-table.ts'
import { ownAddresses, type ServedInterface } from '../protocols/interfaces.ts'

export interface Neighbours {
  /** The hardware address of an IP address; undefined if the kernel does not know it now. */
  macOf(address: string): string | undefined
  /** Whether the kernel has asked for the hardware address of an IP address and gets no answer. */
  isSilent(address: string): boolean
  /**
   * Whether the kernel keeps an ARP table for this network. It has none for loopback, tunnels and
   * other networks without ARP.
   */
  hasTable(): boolean
  /** Whether the table cannot be read at the moment: no descriptor is left, for example. */
  isUnreadable(): boolean
}

const empty: ArpTable = { macs: new Map(), silent: new Set(), size: 0 }

/**
 * Reads the table at most once in a turn of the event loop. An answer never comes from the table of
 * an earlier turn: the kernel learns the address of a machine right before the machine's first
 * packet.
 *
 * @param device the interface that is served; hosts on others can have (or forge) the same
 *   addresses
 */
export function createNeighbours(device: string, read = readArpTable): Neighbours {
  let ofThisTurn: ArpTable | 'unreadable' | undefined
  let last: { text: string; table: ArpTable } | undefined

  function tableNow(): ArpTable | 'unreadable' {
    if (ofThisTurn) return ofThisTurn
    setImmediate(() => (ofThisTurn = undefined))
    return (ofThisTurn = readTable())
  }

  function readTable(): ArpTable | 'unreadable' {
    try {
      // Without such a table, machines are named by their IP addresses.
      const text = read() ?? ''
      // The table is read for each new connection, but rarely changes.
      if (last?.text !== text) last = { text, table: parseArpTable(text, device) }
      return last.table
    } catch {
      return 'unreadable'
    }
  }

  function table(): ArpTable {
    const found = tableNow()
    return found === 'unreadable' ? empty : found
  }

  return {
    macOf: (address) => table().macs.get(address),
    isSilent: (address) => table().silent.has(address),
    hasTable: () => table().size > 0,
    isUnreadable: () => tableNow() === 'unreadable',
  }
}

/** Whether an address is of another machine on the network that is served. */
export function isNeighbourOf({ address: own, network: known }: ServedInterface) {
  let network = known
  return (address: string): boolean => {
    try {
      // The network is known once the cable is plugged in.
      network ??= ownAddresses().find((one) => one.address === own)?.network
    } catch {
      // No descriptor is left: it may be one.
      return address !== own
    }
    return address !== own && network !== undefined && isInNetwork(address, network)
  }
}
