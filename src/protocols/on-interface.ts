/**
 * Finds out whether a client is on the served network.
 *
 * Linux accepts packets to any of its addresses on every interface. Node cannot bind a TCP socket
 * to an interface. So we ignore clients if the route to them goes through another interface.
 */
import { endianness } from 'node:os'

import { isInNetwork, parseAddress } from '../ipv4.ts'
import type { ServedInterface } from './interfaces.ts'
import { readKernelTable } from './kernel-table.ts'

/** Whether the client with this IPv4 address is answered at all. */
export type Hears = (address: string) => boolean

/** How long the routes are kept after they were read. Milliseconds. */
const freshMs = 1000

/** Reads the kernel's routes: /proc/net/route in proc_net(5). */
export function createOnInterface(
  { name, address: own, network }: ServedInterface,
  file = '/proc/net/route',
): Hears {
  let routes: readonly Route[] | undefined
  let readAt = -Infinity
  return (address) => {
    // Also if another interface has the same network: a laptop may have it by cable and by Wi-Fi.
    if (address === own || (network && isInNetwork(address, network))) return true
    if (performance.now() - readAt > freshMs) {
      routes = readRoutes(file, routes)
      readAt = performance.now()
    }
    // Systems other than Linux do not have the file.
    return !routes || interfacesTo(address, routes).includes(name)
  }
}

interface Route {
  interface: string
  destination: number
  mask: number
}

/** The interfaces of the most specific routes. */
function interfacesTo(address: string, routes: readonly Route[]): string[] {
  const target = parseAddress(address)
  const leading = routes.filter(({ destination, mask }) => (target & mask) >>> 0 === destination)
  const best = Math.max(...leading.map(({ mask }) => mask))
  return leading.filter(({ mask }) => mask === best).map((route) => route.interface)
}

/**
 * If the routes cannot be read at the moment, those from before count. Without any, clients that are not on
 * the network itself must ask again.
 */
function readRoutes(
  file: string,
  before: readonly Route[] | undefined,
): readonly Route[] | undefined {
  try {
    const text = readKernelTable(file)
    return text === undefined ? undefined : parseRoutes(text)
  } catch {
    return before ?? []
  }
}

/** The file has addresses as hex numbers in the byte order of the machine. */
export function parseRoutes(text: string, order = endianness()): Route[] {
  const number = (hex: string) => {
    const bytes = Buffer.from(hex, 'hex')
    return (order === 'LE' ? bytes.reverse() : bytes).readUInt32BE()
  }
  return text.split('\n').flatMap((line) => {
    const [name = '', destination = '', , , , , , mask = ''] = line.split('\t')
    if (!/^[0-9a-f]{8}$/i.test(destination) || !/^[0-9a-f]{8}$/i.test(mask)) return []
    return [{ interface: name, destination: number(destination), mask: number(mask) }]
  })
}
