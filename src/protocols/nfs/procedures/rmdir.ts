/** [RFC 1813 §3.3.13] */
import { writeChange } from '../attributes.ts'
import { readName, type NfsProcedure } from '../call.ts'
import { requireModification, requireRemoval, requireSearch } from '../permission.ts'
import { NfsError } from '../protocol.ts'
import { once } from '../reply-cache.ts'

export const rmdir: NfsProcedure = {
  name: 'RMDIR',
  failure: ['change'],
  run(call, directory, results) {
    const name = readName(call)
    if (name.equals(Buffer.from('.'))) throw new NfsError('NFS3ERR_INVAL')
    if (name.equals(Buffer.from('..'))) throw new NfsError('NFS3ERR_EXIST')
    const { credentials, served } = call
    const { fileSystem } = served
    return once(call, results, () => {
      requireSearch(directory, credentials)
      const node = fileSystem.lookup(directory.id, name)
      if (node === undefined) throw new NfsError('NFS3ERR_NOENT')
      requireModification(directory, credentials)
      const attributes = fileSystem.attributes(node)
      requireRemoval(directory, attributes, credentials)
      if (attributes.kind !== 'directory') throw new NfsError('NFS3ERR_NOTDIR')
      fileSystem.removeDirectory(directory.id, name)
      call.seen.node = node
      writeChange(results, served, directory)
      return 'structure'
    })
  },
}
