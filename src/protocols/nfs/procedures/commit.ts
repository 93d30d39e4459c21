/** [RFC 1813 §3.3.21] */
import { writeChange } from '../attributes.ts'
import type { NfsProcedure } from '../call.ts'

export const commit: NfsProcedure = {
  name: 'COMMIT',
  failure: ['change'],
  run({ served }, file, results) {
    // The range in the arguments is ignored: the whole file is committed.
    writeChange(results, served, file)
    results.fixed(served.writeVerifier)
    return file.kind === 'file' ? 'data' : 'structure'
  },
}
