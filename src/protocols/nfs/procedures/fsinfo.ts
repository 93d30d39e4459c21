/** [RFC 1813 §3.3.19] */
import { writeAttributesNow } from '../attributes.ts'
import type { NfsProcedure } from '../call.ts'
import { maxTransfer, preferredListing } from '../protocol.ts'

/** Sizes should be a multiple of this. */
const multiple = 4096
/** There are hard links and symlinks; PATHCONF is the same everywhere; times can be set. */
const properties = 0x01 | 0x02 | 0x08 | 0x10

export const fsinfo: NfsProcedure = {
  name: 'FSINFO',
  failure: ['attributes'],
  run({ served }, node, results) {
    writeAttributesNow(results, served, node)
    // The maximum, the preferred size and the multiple: for READ, then for WRITE.
    for (let transfer = 0; transfer < 2; transfer++) {
      for (const value of [maxTransfer, maxTransfer, multiple]) results.uint32(value)
    }
    results.uint32(preferredListing)
    results.uint64(served.fileSystem.maxFileSize)
    results.uint32(0) // seconds of the time resolution
    results.uint32(1) // nanoseconds of the time resolution
    results.uint32(properties)
    return undefined
  },
}
