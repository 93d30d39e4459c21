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
}

/**
 * Reads the table at most once in a turn of the event loop. An answer never comes from the table of
 * an earlier turn: the kernel learns the address of a machine right before the machine's first
 * packet.
 *
 * @param device the interface that is served; hosts on others can have (or forge) the same
 *   addresses
 */
export function createNeighbours(device: string, read = readArpTable): Neighbours {
  let ofThisTurn: ArpTable | undefined
  let last: { text: string; table: ArpTable } | undefined

  function table(): ArpTable {
    if (ofThisTurn) return ofThisTurn
    setImmediate(() => (ofThisTurn = undefined))
    const text = readTable(read)
    // The table is read for each new connection, but rarely changes.
    if (last?.text !== text) last = { text, table: parseArpTable(text, device) }
    return (ofThisTurn = last.table)
  }

  return {
    macOf: (address) => table().macs.get(address),
    isSilent: (address) => table().silent.has(address),
    hasTable: () => table().size > 0,
  }
}

/** Whether an address is of another machine on the network that is served. */
export function isNeighbourOf({ address: own, network: known }: ServedInterface) {
  let network = known
  return (address: string): boolean => {
    // The network is known once the cable is plugged in.
    network ??= ownAddresses().find((one) => one.address === own)?.network
    return address !== own && network !== undefined && isInNetwork(address, network)
  }
}

function readTable(read: () => string): string {
  try {
    return read()
  } catch {
    // On another system than Linux, or in a sandbox: machines are then named by their IP addresses.
    return ''
  }
}
