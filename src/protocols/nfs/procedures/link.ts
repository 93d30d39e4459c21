/** [RFC 1813 §3.3.15] */
import { writeAttributesAfter, writeChange } from '../attributes.ts'
import { openNode, readEntryName, type NfsProcedure } from '../call.ts'
import { requireModification, requireSearch } from '../permission.ts'
import { NfsError } from '../protocol.ts'
import { once } from '../reply-cache.ts'

export const link: NfsProcedure = {
  name: 'LINK',
  failure: ['attributes', 'change'],
  run(call, node, results) {
    const { credentials, served } = call
    const directory = openNode(call)
    const name = readEntryName(call, 'NFS3ERR_EXIST')
    return once(call, results, () => {
      requireSearch(directory, credentials)
      if (served.fileSystem.lookup(directory.id, name) !== undefined) {
        throw new NfsError('NFS3ERR_EXIST')
      }
      requireModification(directory, credentials)
      if (node.kind === 'directory') throw new NfsError('NFS3ERR_INVAL')
      served.fileSystem.link(node.id, directory.id, name)
      call.seen.node = node.id
      writeAttributesAfter(results, served, node.id)
      writeChange(results, served, directory)
      return 'structure'
    })
  },
}
