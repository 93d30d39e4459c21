/** [RFC 1813 §3.3.1] */
import { writeAttributes } from '../attributes.ts'
import type { NfsProcedure } from '../call.ts'

export const getattr: NfsProcedure = {
  name: 'GETATTR',
  failure: [],
  run({ served }, node, results) {
    writeAttributes(results, node, served.fsid)
    return undefined
  },
}
