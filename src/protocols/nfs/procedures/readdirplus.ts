/** [RFC 1813 §3.3.17] */
import { writeAttributesAfter } from '../attributes.ts'
import type { NfsProcedure } from '../call.ts'
import { readCookie, writeListing } from '../listing.ts'
import { may, permits } from '../permission.ts'

export const readdirplus: NfsProcedure = {
  name: 'READDIRPLUS',
  failure: ['attributes'],
  run(call, directory, results) {
    const cookie = readCookie(call, directory)
    const names = call.arguments.uint32()
    const all = call.arguments.uint32()
    const { served, credentials } = call
    // Without the search permission, the caller gets only names: a handle would give access to
    // nodes that the caller may not look up.
    const maySearch = permits(directory, credentials, may.execute)
    writeListing(call, directory, cookie, { all, names }, results, (node) => {
      if (!maySearch) {
        results.boolean(false)
        results.boolean(false)
        return
      }
      writeAttributesAfter(results, served, node)
      results.boolean(true)
      results.opaque(served.handles.make(node))
    })
    return undefined
  },
}
