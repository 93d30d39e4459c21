/** [RFC 1813 §3.3.3] */
import { writeAttributesAfter } from '../attributes.ts'
import { readName, type NfsProcedure } from '../call.ts'
import { requireSearch } from '../permission.ts'
import { NfsError } from '../protocol.ts'

export const lookup: NfsProcedure = {
  name: 'LOOKUP',
  failure: ['attributes'],
  run(call, directory, results) {
    const name = readName(call)
    const { served } = call
    requireSearch(directory, call.credentials)
    const node = served.fileSystem.lookup(directory.id, name)
    if (node === undefined) throw new NfsError('NFS3ERR_NOENT')
    call.seen.node = node
    results.opaque(served.handles.make(node))
    writeAttributesAfter(results, served, node)
    writeAttributesAfter(results, served, directory.id)
    return undefined
  },
}
