/** The server's data for programs: `/api/machines`, `/api/machines/<mac>`, `/api/images`. */
import { isIP } from 'node:net'
import { hostname } from 'node:os'

import { addressIn } from '../machine-address.ts'

/**
 * The data are plain objects, which are printed as JSON. If the data are not known at the moment, the
 * functions throw a `NetimageError` `in-use`.
 */
export interface Knowledge {
  /** By hardware address (lower case with colons); if that is not known, by IP address. */
  machines: () => Promise<ReadonlyMap<string, object>> | ReadonlyMap<string, object>
  images: () => Promise<readonly object[]> | readonly object[]
  /**
   * Whether the client with this IP address may read the data: a served machine, or this machine.
   */
  isFor: (address: string) => boolean
}

/**
 * Whether a request names this server by its IP address or host name. With DNS rebinding, the owner
 * of a web page makes another name resolve to this server. Then the page could read the data
 * through a browser of this network.
 *
 * @param host the header field `Host`; a client that is not a browser may leave it out
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
 * @returns undefined if there is nothing with that name
 */
export async function lookUp(
  { machines, images }: Knowledge,
  path: string,
): Promise<object | undefined> {
  const [, , collection, name, ...rest] = path.split('/')
  if (rest.length > 0) return undefined
  if (collection === 'images' && name === undefined) return await images()
  if (collection !== 'machines') return undefined
  if (name === undefined) return [...(await machines()).values()]
  return (await machines()).get(addressIn(name))
}
