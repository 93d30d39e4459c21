/** What the name of a server means on this computer. */
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'

/** @returns IPv4 addresses; `server` itself if it is an address; none if the name cannot be resolved */
export async function addressesOf(server: string): Promise<string[]> {
  if (isIP(server) !== 0) return [server]
  try {
    return (await lookup(server, { all: true, family: 4 })).map(({ address }) => address)
  } catch {
    return []
  }
}

/** Many systems give their own name such an address (127.0.1.1), which no other machine sees. */
export function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}
