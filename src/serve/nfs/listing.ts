/** Listings of directories: what READDIR and READDIRPLUS have in common [RFC 1813 §3.3.16]. */
import type { Attributes, DirectoryEntry } from '../layers/file-system.ts'
import type { XdrWriter } from '../rpc/xdr.ts'
import { writeAttributesAfter } from './attributes.ts'
import type { NfsCall } from './call.ts'
import { may, requirePermission } from './permission.ts'
import { maxTransfer, NfsError } from './protocol.ts'

/** `.` and `..` come first and have the first two cookies; those of the others come after. */
const dots = [Buffer.from('.'), Buffer.from('..')]

const cookieVerifierBytes = 8
/** That no entry follows, and whether it is the end of the directory. */
const endBytes = 8

export interface ListingStart {
  cookie: number
}

/** @throws `NfsError` where the listing cannot go on from there */
export function readListingStart(call: NfsCall, directory: Attributes): ListingStart {
  const cookie = call.arguments.uint64()
  const verifier = call.arguments.fixed(cookieVerifierBytes)
  if (directory.kind !== 'directory') throw new NfsError('NFS3ERR_NOTDIR')
  requirePermission(directory, call.credentials, may.read)
  if (cookie !== 0 && !verifier.equals(call.served.cookieVerifier)) {
    throw new NfsError('NFS3ERR_BAD_COOKIE')
  }
  return { cookie }
}

export interface ListingLimits {
  /** Bytes of all results after the status. */
  all: number
  /** Bytes of the entries without what `writeMore` writes. */
  names?: number
}

/** @param writeMore writes what follows an entry's number, name and cookie */
export function writeListing(
  call: NfsCall,
  directory: Attributes,
  { cookie }: ListingStart,
  limits: ListingLimits,
  results: XdrWriter,
  writeMore?: (entry: DirectoryEntry) => void,
): void {
  const { served } = call
  const end = results.length + Math.min(limits.all, maxTransfer) - endBytes
  let namesLeft = limits.names ?? Infinity
  writeAttributesAfter(results, served, directory.id)
  results.fixed(served.cookieVerifier)

  let isAny = false
  let isEnd = true
  for (const entry of entriesAfter(call, directory, cookie)) {
    const start = results.length
    results.boolean(true)
    results.uint64(entry.node)
    results.opaque(entry.name)
    results.uint64(entry.cookie)
    namesLeft -= results.length - start
    writeMore?.(entry)
    if (results.length > end || namesLeft < 0) {
      results.truncate(start)
      isEnd = false
      break
    }
    isAny = true
  }
  if (!isEnd && !isAny) throw new NfsError('NFS3ERR_TOOSMALL')
  results.boolean(false)
  results.boolean(isEnd)
}

function* entriesAfter(
  { served: { fileSystem } }: NfsCall,
  directory: Attributes,
  cookie: number,
): Iterable<DirectoryEntry> {
  for (const [index, name] of dots.slice(cookie).entries()) {
    const node = fileSystem.lookup(directory.id, name) ?? directory.id
    yield { name, node, cookie: cookie + index + 1 }
  }
  const from = Math.max(0, cookie - dots.length)
  for (const entry of fileSystem.list(directory.id, from)) {
    yield { ...entry, cookie: entry.cookie + dots.length }
  }
}
