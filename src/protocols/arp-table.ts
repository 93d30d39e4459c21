/** The kernel's table of neighbours: which hardware address has an IP address. */
import { parseMac } from '../mac.ts'
import { readKernelTable } from './kernel-table.ts'

/** The part of the table that is of one interface. */
export interface ArpTable {
  /** Hardware address by IP address, of the entries that are complete. */
  macs: ReadonlyMap<string, string>
  /** The IP addresses of the entries that are not complete. */
  silent: ReadonlySet<string>
  /** Of all entries, also those that are not complete. */
  size: number
}

/** See `readKernelTable`. */
export function readArpTable(): string | undefined {
  return readKernelTable('/proc/net/arp')
}

const complete = 0x2

/** proc_net_arp in proc_net(5): address, type, flags, hardware address, mask, device. */
export function parseArpTable(text: string, device: string): ArpTable {
  const macs = new Map<string, string>()
  const silent = new Set<string>()
  let size = 0
  for (const line of text.split('\n').slice(1)) {
    const [address, , flags, hardwareAddress, , rowDevice] = line.split(/\s+/)
    if (address === undefined || hardwareAddress === undefined || rowDevice !== device) continue
    size++
    const isComplete = (Number(flags) & complete) !== 0
    const mac = parseMac(hardwareAddress)
    if (!isComplete) silent.add(address)
    else if (mac !== undefined) macs.set(address, mac)
  }
  return { macs, silent, size }
}
