/** [RFC 1813 §3.3.20] */
import { writeAttributesNow } from '../attributes.ts'
import type { NfsProcedure } from '../call.ts'
import { maxName } from '../protocol.ts'

const maxLinks = 32_000

export const pathconf: NfsProcedure = {
  name: 'PATHCONF',
  failure: ['attributes'],
  run({ served }, node, results) {
    writeAttributesNow(results, served, node)
    results.uint32(maxLinks)
    results.uint32(maxName)
    results.boolean(true) // names that are too long are refused, not cut
    results.boolean(true) // only root may change the owner of a file
    results.boolean(false) // `a` and `A` are two names
    results.boolean(true) // the case of names is kept
    return undefined
  },
}
