/** [RFC 1813 §3.3.16] */
import type { NfsProcedure } from '../call.ts'
import { readCookie, writeListing } from '../listing.ts'

export const readdir: NfsProcedure = {
  name: 'READDIR',
  failure: ['attributes'],
  run(call, directory, results) {
    const cookie = readCookie(call, directory)
    const all = call.arguments.uint32()
    writeListing(call, directory, cookie, { all }, results)
    return undefined
  },
}
