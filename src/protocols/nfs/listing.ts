/** Listings of directories, for READDIR and READDIRPLUS [RFC 1813 §3.3.16]. */
import type { Attributes, NodeId } from './file-system.ts'
import type { XdrWriter } from '../rpc/xdr.ts'
import { writeAttributesNow } from './attributes.ts'
import type { NfsCall } from './call.ts'
import { may, requirePermission } from './permission.ts'
import { NfsError, preferredListing } from './protocol.ts'

/** `.` and `..` come first, with the first two cookies; the cookies of other entries follow. */
const dots = [Buffer.from('.'), Buffer.from('..')]

const cookieVerifierBytes = 8
/** Two words: no further entry, and whether this is the end of the directory. */
const endBytes = 8

/**
 * Reads the cookie of the entry after which the listing continues.
 *
 * @throws `NfsError` if the cookie is not valid, or if the caller may not list
 */
export function readCookie(call: NfsCall, directory: Attributes): number {
  const cookie = call.arguments.uint64()
  const verifier = call.arguments.fixed(cookieVerifierBytes)
  if (directory.kind !== 'directory') throw new NfsError('NFS3ERR_NOTDIR')
  requirePermission(directory, call.credentials, may.read)
  if (cookie !== 0 && !verifier.equals(call.served.cookieVerifier)) {
    throw new NfsError('NFS3ERR_BAD_COOKIE')
  }
  return cookie
}

export interface ListingLimits {
  /** Bytes of all results after the status. */
  all: number
  /** Bytes of the entries, without the bytes of `writeMore`. */
  names?: number
}

/** @param writeMore writes the fields after an entry's number, name and cookie */
export function writeListing(
  call: NfsCall,
  directory: Attributes,
  cookie: number,
  limits: ListingLimits,
  results: XdrWriter,
  writeMore?: (node: NodeId) => void,
): void {
  const { served } = call
  const end = results.length + Math.min(limits.all, preferredListing) - endBytes
  let namesLeft = limits.names ?? Infinity
  writeAttributesNow(results, served, directory)
  results.fixed(served.cookieVerifier)

  let isAny = false
  /** @returns whether there was enough room */
  function writeEntry(node: NodeId, name: Buffer, cookie: number): boolean {
    const start = results.length
    results.boolean(true)
    results.uint64(node)
    results.opaque(name)
    results.uint64(cookie)
    namesLeft -= results.length - start
    writeMore?.(node)
    if (results.length > end || namesLeft < 0) {
      results.truncate(start)
      return false
    }
    isAny = true
    return true
  }

  function writeEntries(): boolean {
    const { fileSystem } = served
    for (let index = cookie; index < dots.length; index++) {
      const name = dots[index] ?? Buffer.alloc(0)
      const node = fileSystem.lookup(directory.id, name) ?? directory.id
      if (!writeEntry(node, name, index + 1)) return false
    }
    const from = Math.max(0, cookie - dots.length)
    for (const { node, name, cookie } of fileSystem.list(directory.id, from)) {
      if (!writeEntry(node, name, cookie + dots.length)) return false
    }
    return true
  }

  const isEnd = writeEntries()
  if (!isEnd && !isAny) throw new NfsError('NFS3ERR_TOOSMALL')
  results.boolean(false)
  results.boolean(isEnd)
}
