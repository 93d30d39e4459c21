/** What the server knows, for programs: `/api/machines`, `/api/machines/<mac>`, `/api/images`. */
import { isIP } from 'node:net'
import { hostname } from 'node:os'

import { addressIn } from '../machine-address.ts'

/** Plain data, as it is to be printed as JSON. */
export interface Knowledge {
  /** By hardware address, in lower case with colons; one without by its IP address. */
  machines: () => ReadonlyMap<string, object>
  images: () => readonly object[]
  /** Whether a client is told, by its IP address: it is one of the machines, or this one. */
  isFor: (address: string) => boolean
}

/**
 * Whether a request is for this server by its own name. The owner of any web page can have another
 * name lead here (DNS rebinding), and a browser of this network would read to them what it gets.
 *
 * @param host as in the header field of that name; a client that is no browser may send none
 */
export function isOwnName(host: string | undefined): boolean {
  if (host === undefined) return true
  const name = host
    .replace(/:\d*$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase()
  return isIP(name) !== 0 || name === 'localhost' || name === hostname().toLowerCase()
}

/**
 * @param path percent-decoded, with the `/` at its start
 * @returns undefined where there is nothing of that name
 */
export function lookUp({ machines, images }: Knowledge, path: string): object | undefined {
  const [, , collection, name, ...rest] = path.split('/')
  if (rest.length > 0) return undefined
  if (collection === 'images' && name === undefined) return images()
  if (collection !== 'machines') return undefined
  if (name === undefined) return [...machines().values()]
  return machines().get(addressIn(name))
}
