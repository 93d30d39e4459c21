/** The neighbours on the network that is served, as the kernel knows them: its ARP table. */
import { parseArpTable, readArpTable, type ArpTable } from '../protocols/arp-table.ts'

export interface Neighbours {
  /** The hardware address at an IP address now; undefined if the kernel does not know it now. */
  macOf(address: string): string | undefined
  /** Whether the kernel has something to send to an IP address, and nobody says that it is there. */
  isSilent(address: string): boolean
  /**
   * Whether the kernel keeps such a table for this network. It keeps none for loopback, and none for
   * tunnels and other networks without ARP.
   */
  areTold(): boolean
}

/**
 * Reads the table at most once in a turn of the event loop, and always in the turn in which it is
 * asked: a machine's first packet comes right after the one that made the kernel learn its address.
 *
 * @param device the interface that is served: hosts elsewhere can have the same addresses, or
 *   pretend to
 */
export function createNeighbours(device: string, read = readArpTable): Neighbours {
  let ofThisTurn: ArpTable | undefined
  let last: { text: string; table: ArpTable } | undefined

  function table(): ArpTable {
    if (ofThisTurn) return ofThisTurn
    setImmediate(() => (ofThisTurn = undefined))
    const text = readTable(read)
    // Each new connection has it read, and it is seldom another one than before.
    if (last?.text !== text) last = { text, table: parseArpTable(text, device) }
    return (ofThisTurn = last.table)
  }

  return {
    macOf: (address) => table().macs.get(address),
    isSilent: (address) => table().silent.has(address),
    areTold: () => table().size > 0,
  }
}

function readTable(read: () => string): string {
  try {
    return read()
  } catch {
    // Another system than Linux, or a sandbox: machines are then known by their IP addresses.
    return ''
  }
}
