/** [RFC 1813 §3.3.18] */
import { writeAttributesNow } from '../attributes.ts'
import type { NfsProcedure } from '../call.ts'

export const fsstat: NfsProcedure = {
  name: 'FSSTAT',
  failure: ['attributes'],
  run({ served }, node, results) {
    const { total, free, available, files, freeFiles } = served.fileSystem.space()
    writeAttributesNow(results, served, node)
    // For bytes, then for files: the total, the free ones, and those that the caller may use.
    for (const value of [total, free, available, files, freeFiles, freeFiles]) results.uint64(value)
    results.uint32(0) // the seconds during which these values do not change
    return undefined
  },
}
