/**
 * Who is on the network that is served.
 *
 * A socket that listens on an address of one interface is reached by all others as well: Linux
 * takes in what is sent to any of its addresses, wherever it comes from. Node cannot keep a TCP
 * socket to an interface; so whoever would be answered by another one is not heard.
 */
import { readFileSync } from 'node:fs'
import { endianness } from 'node:os'

import { isInNetwork, parseAddress } from '../ipv4.ts'
import type { ServedInterface } from './interfaces.ts'

/** Whether a client is heard at all, by its IPv4 address. */
export type Hears = (address: string) => boolean

/** How long what was read counts. Milliseconds. */
const freshMs = 1000

/** Reads the kernel's routes: /proc/net/route in proc_net(5). */
export function createOnInterface(
  { name, address: own, network }: ServedInterface,
  file = '/proc/net/route',
): Hears {
  let routes: readonly Route[] | undefined
  let readAt = -Infinity
  return (address) => {
    // Also where another interface has the same network, as a laptop's cable and its wireless do.
    if (address === own || (network && isInNetwork(address, network))) return true
    if (performance.now() - readAt > freshMs) {
      routes = readRoutes(file)
      readAt = performance.now()
    }
    // Another system than Linux does not say.
    return !routes || interfacesTo(address, routes).includes(name)
  }
}

interface Route {
  interface: string
  destination: number
  mask: number
}

/** Those of the most specific routes. */
function interfacesTo(address: string, routes: readonly Route[]): string[] {
  const target = parseAddress(address)
  const leading = routes.filter(({ destination, mask }) => (target & mask) >>> 0 === destination)
  const best = Math.max(...leading.map(({ mask }) => mask))
  return leading.filter(({ mask }) => mask === best).map((route) => route.interface)
}

function readRoutes(file: string): Route[] | undefined {
  try {
    return parseRoutes(readFileSync(file, 'utf8'))
  } catch {
    return undefined
  }
}

/** Addresses stand there as the numbers that their bytes are in memory. */
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
