/** The server's data for programs: `/api/machines`, `/api/machines/<mac>`, `/api/images`. */
import type { ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import { hostname } from 'node:os'

import { NetimageError } from '../../errors.ts'
import { addressIn } from '../machine-address.ts'
import { beginInTurn } from '../turns.ts'
import { sendJson, sendText } from './send.ts'

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

interface DataRequest {
  /** Whose turns this takes. */
  machine: string
  address: string
  host: string | undefined
  path: string
}

/** @throws the errors of `Knowledge`, unless the data are only not known at the moment */
export async function answerData(
  knowledge: Knowledge,
  { machine, address, host, path }: DataRequest,
  response: ServerResponse,
): Promise<void> {
  if (!isOwnName(host)) {
    sendText(response, 403, 'Use the IP address of this server in the URL, not this name.')
    return
  }
  if (!knowledge.isFor(address)) {
    sendText(response, 403, 'This machine is not served.')
    return
  }
  try {
    const known = await beginInTurn(machine, () => lookUp(knowledge, path))
    if (known) await beginInTurn(machine, async () => sendJson(response, known))
    else sendText(response, 404, 'There is nothing with that name.')
  } catch (error) {
    if (!(error instanceof NetimageError) || error.code !== 'in-use') throw error
    sendText(response, 503, 'The data are not known at the moment. Ask again.')
  }
}

/**
 * Whether a request names this server by its IP address or host name. With DNS rebinding, the owner
 * of a web page makes another name resolve to this server. Then the page could read the data
 * through a browser of this network.
 *
 * @param host the header field `Host`; a client that is not a browser may leave it out
 */
function isOwnName(host: string | undefined): boolean {
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
async function lookUp({ machines, images }: Knowledge, path: string): Promise<object | undefined> {
  const [, , collection, name, ...rest] = path.split('/')
  if (rest.length > 0) return undefined
  if (collection === 'images' && name === undefined) return await images()
  if (collection !== 'machines') return undefined
  if (name === undefined) return [...(await machines()).values()]
  return (await machines()).get(addressIn(name))
}
