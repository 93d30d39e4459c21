/** The neighbours on the network that is served, as the kernel knows them: its ARP table. */
import { readFileSync } from 'node:fs'

import { parseMac } from '../mac.ts'

export interface Neighbours {
  /** The hardware address at an IP address now; undefined if the kernel does not know it now. */
  macOf(address: string): string | undefined
  /**
   * Whether the kernel keeps such a table for this network. It keeps none for loopback, and none for
   * tunnels and other networks without ARP.
   */
  areTold(): boolean
}

/** The part of the table that is of one interface. */
export interface ArpTable {
  /** Hardware address by IP address, of the entries that are complete. */
  macs: ReadonlyMap<string, string>
  /** Of all entries, also those that are not complete. */
  size: number
}

/**
 * Reads the table at most once in a turn of the event loop, and always in the turn in which it is
 * asked: a machine's first packet comes right after the one that made the kernel learn its address.
 *
 * @param device the interface that is served: hosts elsewhere can have the same addresses, or
 *   pretend to
 */
export function createNeighbours(
  device: string,
  read = () => readFileSync('/proc/net/arp', 'utf8'),
): Neighbours {
  let ofThisTurn: ArpTable | undefined

  function table(): ArpTable {
    if (ofThisTurn) return ofThisTurn
    setImmediate(() => (ofThisTurn = undefined))
    return (ofThisTurn = readTable(read, device))
  }

  return {
    macOf: (address) => table().macs.get(address),
    areTold: () => table().size > 0,
  }
}

function readTable(read: () => string, device: string): ArpTable {
  try {
    return parseArpTable(read(), device)
  } catch {
    // Another system than Linux, or a sandbox: machines are then known by their IP addresses.
    return { macs: new Map(), size: 0 }
  }
}

const complete = 0x2

/** proc_net_arp in proc_net(5): address, type, flags, hardware address, mask, device. */
export function parseArpTable(text: string, device: string): ArpTable {
  const macs = new Map<string, string>()
  let size = 0
  for (const line of text.split('\n').slice(1)) {
    const [address, , flags, hardwareAddress, , rowDevice] = line.split(/\s+/)
    if (address === undefined || hardwareAddress === undefined || rowDevice !== device) continue
    size++
    const isComplete = (Number(flags) & complete) !== 0
    const mac = parseMac(hardwareAddress)
    if (isComplete && mac !== undefined) macs.set(address, mac)
  }
  return { macs, size }
}
