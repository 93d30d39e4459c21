/** [RFC 1813 §3.3.5] */
import { writeAttributesNow } from '../attributes.ts'
import type { NfsProcedure } from '../call.ts'
import { NfsError } from '../protocol.ts'

export const readlink: NfsProcedure = {
  name: 'READLINK',
  failure: ['attributes'],
  run({ served }, node, results) {
    if (node.kind !== 'symlink') throw new NfsError('NFS3ERR_INVAL')
    const target = served.fileSystem.readLink(node.id)
    writeAttributesNow(results, served, node)
    results.opaque(target)
    return undefined
  },
}
