/** [RFC 1813 §3.3.14] */
import type { NodeId } from '../file-system.ts'
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
      const replaced = fileSystem.lookup(toDirectory.id, toName)
      // If both are names of the same file, nothing changes, and no permission is needed.
      if (replaced !== node) {
        requireMoving(node, replaced)
        fileSystem.rename(directory.id, name, toDirectory.id, toName)
      }
      call.seen.node = node
      writeChange(results, served, directory)
      writeChange(results, served, toDirectory)
      return 'structure'
    })

    function requireMoving(node: NodeId, replaced: NodeId | undefined): void {
      requireModification(directory, credentials)
      const attributes = fileSystem.attributes(node)
      requireRemoval(directory, attributes, credentials)
      requireModification(toDirectory, credentials)
      const isDirectory = attributes.kind === 'directory'
      if (replaced !== undefined) {
        const other = fileSystem.attributes(replaced)
        requireRemoval(toDirectory, other, credentials)
        const isOtherDirectory = other.kind === 'directory'
        if (isDirectory && !isOtherDirectory) throw new NfsError('NFS3ERR_NOTDIR')
        if (isOtherDirectory && !isDirectory) throw new NfsError('NFS3ERR_ISDIR')
      }
      if (isDirectory && directory.id !== toDirectory.id) {
        // The entry `..` of the moved directory changes.
        requirePermission(attributes, credentials, may.write)
      }
    }
  },
}
