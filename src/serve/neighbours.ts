/** The hardware addresses that this machine knows of those it has just talked to. */
import { readFileSync } from 'node:fs'

import { remember } from '../remember.ts'

/**
 * @param maxAge what was read may be so old, for who asks often: milliseconds. By default it is read
 *   anew: the first packet of a machine comes right behind that by which the kernel learns who has
 *   the address now.
 * @returns undefined where the kernel never knew it, or is none that says so
 */
export type MacOf = (address: string, maxAge?: number) => string | undefined

/** Reads the kernel's ARP table: proc_net_arp in proc_net(5). */
export function createNeighbours(file = '/proc/net/arp', now = () => performance.now()): MacOf {
  // The kernel forgets who is silent, and everybody when a cable is pulled. The next packet of such
  // a machine comes in before it knows it again, and must not be taken for that of another.
  const known = new Map<string, string>()
  let readAt = -Infinity
  return (address, maxAge = 0) => {
    if (now() - readAt > maxAge) {
      for (const [neighbour, mac] of readTable(file)) remember(known, neighbour, mac)
      readAt = now()
    }
    return known.get(address)
  }
}

function readTable(file: string): Map<string, string> {
  try {
    return parseArpTable(readFileSync(file, 'utf8'))
  } catch {
    // Another system than Linux, or a sandbox: machines are then known by their IP addresses.
    return new Map()
  }
}

const complete = 0x2

/** IP address to hardware address, of the entries that are complete. */
export function parseArpTable(text: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const line of text.split('\n').slice(1)) {
    const [address, , flags, mac] = line.split(/\s+/)
    if (address === undefined || mac === undefined) continue
    const isComplete = (Number(flags) & complete) !== 0
    if (isComplete && /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) {
      found.set(address, mac.toLowerCase())
    }
  }
  return found
}
