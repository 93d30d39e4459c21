/** [RFC 1813 §3.3.18] */
import { writeAttributesAfter } from '../attributes.ts'
import type { NfsProcedure } from '../call.ts'

export const fsstat: NfsProcedure = {
  name: 'FSSTAT',
  failure: ['attributes'],
  run({ served }, node, results) {
    const { total, free, available, files, freeFiles } = served.fileSystem.space()
    writeAttributesAfter(results, served, node.id)
    // Each: all, what is free, and what of that the caller may have.
    for (const value of [total, free, available, files, freeFiles, freeFiles]) results.uint64(value)
    results.uint32(0) // seconds in which none of it changes
    return undefined
  },
}
