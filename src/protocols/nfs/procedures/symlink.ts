/** [RFC 1813 §3.3.10] */
import { readWantedAttributes } from '../attributes.ts'
import { readEntryName, type NfsProcedure } from '../call.ts'
import { makeNodeOnce } from '../change.ts'
import { maxTarget, NfsError } from '../protocol.ts'

/** The mode of a symlink has no meaning; Linux always shows this mode. */
const mode = 0o777

export const symlink: NfsProcedure = {
  name: 'SYMLINK',
  failure: ['change'],
  run(call, directory, results) {
    const name = readEntryName(call, 'NFS3ERR_EXIST')
    const wanted = { ...readWantedAttributes(call.arguments), mode }
    const target = Buffer.from(call.arguments.opaque())
    if (target.length > maxTarget) throw new NfsError('NFS3ERR_NAMETOOLONG')
    if (target.length === 0 || target.includes(0)) throw new NfsError('NFS3ERR_INVAL')
    const node = { kind: 'symlink', target } as const
    return makeNodeOnce(call, directory, name, { node, wanted, results })
  },
}
