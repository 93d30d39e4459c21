/**
 * Whether a request names this server as a person does. With DNS rebinding, the owner of a web page makes
 * another name resolve to this server. Then the page could read through a browser what only people here may
 * see.
 */
import { isIP } from 'node:net'

import { plainAddress } from '../protocols/connections.ts'

/**
 * @param host the header field `Host`, with or without a port. The port does not count: a tunnel may change it
 * @param local the address at which the request came
 * @param names host names that the person allowed, in lower case
 */
export function isOwnHost(
  host: string | undefined,
  local: string | undefined,
  names: ReadonlySet<string>,
): boolean {
  const name = host === undefined ? undefined : nameIn(host)
  if (name === undefined) return false
  if (isIP(name) === 0) return isLocalhost(name) || names.has(name)
  return sameAddress(name, plainAddress(local) ?? '')
}

/** [RFC 9110 §7.2] */
function nameIn(host: string): string | undefined {
  const [, inBrackets, plain] = /^(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::\d*)?$/i.exec(host) ?? []
  if (inBrackets !== undefined && isIP(inBrackets) !== 6) return undefined
  // A name may end with a dot, which only says that it is complete.
  return (inBrackets ?? plain)?.toLowerCase().replace(/\.$/, '')
}

/** Browsers resolve these names themselves. [RFC 6761 §6.3] */
function isLocalhost(name: string): boolean {
  return name === 'localhost' || name.endsWith('.localhost')
}

/** Browsers write an IPv6 address in the shortest form, as URL does. */
function sameAddress(one: string, other: string): boolean {
  return shortest(one) === shortest(other)
}

function shortest(address: string): string {
  return isIP(address) === 6 ? (URL.parse(`http://[${address}]/`)?.hostname ?? address) : address
}
