/** [RFC 1813 §3.3.3] */
import { writeAttributesAfter, writeAttributesNow } from '../attributes.ts'
import { readName, type NfsProcedure } from '../call.ts'
import { requireSearch } from '../permission.ts'
import { NfsError } from '../protocol.ts'

/** Made once: an error takes longer to make than the call, and most names of a search do not exist. */
const noEntry = new NfsError('NFS3ERR_NOENT')

export const lookup: NfsProcedure = {
  name: 'LOOKUP',
  failure: ['attributes'],
  run(call, directory, results) {
    const name = readName(call)
    const { served } = call
    requireSearch(directory, call.credentials)
    const node = served.fileSystem.lookup(directory.id, name)
    if (node === undefined) throw noEntry
    call.seen.node = node
    results.opaque(served.handles.make(node))
    writeAttributesAfter(results, served, node)
    writeAttributesNow(results, served, directory)
    return undefined
  },
}
