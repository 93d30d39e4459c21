/** [RFC 1813 §3.3.14] */
import { writeChange } from '../attributes.ts'
import { openNode, readEntryName, type NfsProcedure } from '../call.ts'
import {
  may,
  requireModification,
  requirePermission,
  requireRemoval,
  requireSearch,
} from '../permission.ts'
import { NfsError } from '../protocol.ts'
import { once } from '../reply-cache.ts'

export const rename: NfsProcedure = {
  name: 'RENAME',
  failure: ['change', 'change'],
  run(call, directory, results) {
    const { credentials, served } = call
    const { fileSystem } = served
    const name = readEntryName(call, 'NFS3ERR_INVAL')
    const toDirectory = openNode(call)
    const toName = readEntryName(call, 'NFS3ERR_INVAL')
    return once(call, results, () => {
      requireSearch(directory, credentials)
      requireSearch(toDirectory, credentials)
      const node = fileSystem.lookup(directory.id, name)
      if (node === undefined) throw new NfsError('NFS3ERR_NOENT')
      requireModification(directory, credentials)
      requireModification(toDirectory, credentials)
      const attributes = fileSystem.attributes(node)
      requireRemoval(directory, attributes, credentials)
      if (attributes.kind === 'directory' && directory.id !== toDirectory.id) {
        // Its own entry `..` is written to.
        requirePermission(attributes, credentials, may.write)
      }
      const replaced = fileSystem.lookup(toDirectory.id, toName)
      if (replaced !== undefined) {
        requireRemoval(toDirectory, fileSystem.attributes(replaced), credentials)
      }
      fileSystem.rename(directory.id, name, toDirectory.id, toName)
      call.seen.node = node
      writeChange(results, served, directory)
      writeChange(results, served, toDirectory)
      return 'structure'
    })
  },
}
