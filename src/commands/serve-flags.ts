/** The values of the flags of `serve`: machines, addresses, ports and sizes. */
import { isIPv4 } from 'node:net'
import { InvalidArgumentError } from '@commander-js/extra-typings'

import { NetimageError } from '../errors.ts'
import { parseMac } from '../mac.ts'
import { addressIn } from '../protocols/machine-address.ts'
import { isMachineName } from '../site/machine-name.ts'

/** @returns addresses, names of machines, and `any` */
export function parseAllowed(text: string, previous: string[] | undefined): string[] {
  const name = addressIn(text)
  const isAddress = parseMac(name) !== undefined || isIPv4(name)
  if (name !== 'any' && !isAddress && !isMachineName(name.toLowerCase())) {
    throw new InvalidArgumentError('Give a hardware address, an IPv4 address, a name, or any.')
  }
  return [...(previous ?? []), name]
}

/** @returns the IPv4 address for each hardware address */
export function parseReservation(
  text: string,
  previous: ReadonlyMap<string, string> | undefined,
): ReadonlyMap<string, string> {
  const [name = '', address = '', ...more] = text.split('=')
  const mac = parseMac(name)
  if (mac === undefined || !isIPv4(address) || more.length > 0) {
    throw new InvalidArgumentError('Write MAC=ADDRESS, as in dc:a6:32:01:02:03=10.0.0.7.')
  }
  return new Map([...(previous ?? []), [mac, address]])
}

export function parseAddresses(text: string, previous: string[] | undefined): string[] {
  if (!isIPv4(text)) throw new InvalidArgumentError('Give an IPv4 address.')
  return [...(previous ?? []), text]
}

const labelPattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i

export function parseDomain(text: string): string {
  const isDomain = text.split('.').every((label) => labelPattern.test(label))
  if (isDomain && text.length <= 253) return text
  throw new InvalidArgumentError('Give a domain name, as in home.arpa.')
}

export function parsePort(text: string): number {
  const port = Number(text)
  if (/^\d+$/.test(text) && port > 0 && port < 65536) return port
  throw new InvalidArgumentError('A port is a number from 1 to 65535.')
}

/** Where the status page is. */
export interface PagePlace {
  /** An IP address or a name of this computer. */
  host: string
  /** 0: any free port. */
  port: number
}

export function parsePage(text: string): PagePlace | 'off' {
  if (text === 'off') return text
  const [, address, name, digits] = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]+)):(\d+)$/i.exec(text) ?? []
  const [host, port] = [address ?? name, Number(digits)]
  if (host !== undefined && port < 65_536) return { host, port }
  throw new InvalidArgumentError('Give ADDRESS:PORT, as in 127.0.0.1:8080, or off.')
}

/** @returns lower-case host names */
export function parseNames(text: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), parseDomain(text).toLowerCase()]
}

/** More would only need memory. */
const maxWorkers = 64

export function parseWorkers(text: string): number {
  const workers = Number(text)
  if (/^\d+$/.test(text) && workers <= maxWorkers) return workers
  throw new InvalidArgumentError(`Give a number from 0 to ${maxWorkers}.`)
}

/**
 * How many processes serve the machines if nobody says it. One of many processors is left to DHCP and the
 * kernel. On two processors, two processes bring little except by TFTP, and need more memory
 * (bench/README.md).
 */
export function workersFor(processors: number): number {
  return processors > 2 ? Math.min(processors - 1, 16) : 0
}

const sizeUnits = ['K', 'M', 'G', 'T']
/** The database of a layer, its log and its reserve alone may take half of this. */
const leastLayerSize = 16 * 2 ** 20

/** @param text with a unit that is a power of 1024, as in `20G` @returns bytes */
export function parseLayerSize(text: string): number {
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)([KMGT])(?:iB)?$/i.exec(text) ?? []
  const power = sizeUnits.indexOf(unit.toUpperCase()) + 1
  const bytes = Math.floor(Number(number) * 1024 ** power)
  if (number === '' || !Number.isSafeInteger(bytes)) {
    throw new InvalidArgumentError('Give a number with K, M, G or T, as in 20G.')
  }
  if (bytes >= leastLayerSize) return bytes
  throw new InvalidArgumentError('A layer needs at least 16M.')
}

/**
 * Refuses flags that only `--dhcp full` uses.
 *
 * @param flags by name; undefined if a flag was not given
 * @throws `NetimageError` `bad-usage`
 */
export function refuseWithoutFull(dhcp: string, flags: Readonly<Record<string, unknown>>): void {
  const [name] = Object.entries(flags).find(([, value]) => value !== undefined) ?? []
  if (dhcp === 'full' || name === undefined) return
  throw new NetimageError(
    'bad-usage',
    `--${name} is only for --dhcp full: with --dhcp ${dhcp}, netimage gives no addresses`,
    {
      hint: `Leave out --${name}, or serve with --dhcp full on a network without another DHCP server.`,
    },
  )
}
