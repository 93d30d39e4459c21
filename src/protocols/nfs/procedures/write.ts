/** [RFC 1813 §3.3.7] */
import { XdrError } from '../../rpc/xdr.ts'
import { writeChange } from '../attributes.ts'
import type { NfsProcedure } from '../call.ts'
import { modeAfterWriting, requireWriting } from '../permission.ts'
import { maxTransfer, NfsError, stability } from '../protocol.ts'

export const write: NfsProcedure = {
  name: 'WRITE',
  failure: ['change'],
  run(call, file, results) {
    const { credentials, served } = call
    const { fileSystem } = served
    const offset = call.arguments.uint64()
    const count = call.arguments.uint32()
    const wanted = call.arguments.uint32()
    if (wanted > stability.fileSync) throw new XdrError(`${wanted} is not a stability`)
    const data = call.arguments.opaque()
    if (count !== data.length) throw new NfsError('NFS3ERR_INVAL')
    requireWriting(file, credentials)
    const bytes = data.subarray(0, maxTransfer)
    if (bytes.length > 0) {
      fileSystem.write(file.id, offset, bytes, modeAfterWriting(file, credentials))
    }
    const isUnstable = wanted === stability.unstable
    writeChange(results, served, file)
    results.uint32(bytes.length)
    results.uint32(isUnstable ? stability.unstable : stability.fileSync)
    results.fixed(served.writeVerifier)
    call.seen.bytes = bytes.length
    return isUnstable ? undefined : 'data'
  },
}
