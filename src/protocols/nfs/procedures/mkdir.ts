/** [RFC 1813 §3.3.9] */
import { readWantedAttributes } from '../attributes.ts'
import { readEntryName, type NfsProcedure } from '../call.ts'
import { makeNodeOnce } from '../change.ts'

export const mkdir: NfsProcedure = {
  name: 'MKDIR',
  failure: ['change'],
  run(call, directory, results) {
    const name = readEntryName(call, 'NFS3ERR_EXIST')
    const wanted = readWantedAttributes(call.arguments)
    return makeNodeOnce(call, directory, name, { node: { kind: 'directory' }, wanted, results })
  },
}
