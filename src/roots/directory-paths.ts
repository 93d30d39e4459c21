/** The paths of files in a layer, to tell people about them. */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import type { LayerDatabase } from './database.ts'
import { bytesOf } from './layer-rows.ts'
import { isOwn, rootNode } from './numbers.ts'

/** A name in a directory outside the store paths of images, or in a directory that has such a name. */
export interface PlacedName {
  directory: NodeId | PlacedName
  name: Buffer
}

/**
 * Directories can be in each other without limit. A longer path begins with an ellipsis, and has at least as
 * many bytes as any path that a machine can use.
 */
const mostBytes = 4096

/** @returns gives the path of a name */
export function createPaths(
  database: Pick<LayerDatabase, 'entriesWhere' | 'select' | 'readNode'>,
): (placed: PlacedName) => Buffer {
  /** The directory above, and the name of the directory in it; if there is none, its path. */
  function nameOf(directory: NodeId): PlacedName | Buffer {
    if (directory === rootNode) return Buffer.alloc(0)
    const row = isOwn(directory) ? database.readNode(directory) : undefined
    if (!row) {
      const [file] = database.select('SELECT path FROM files WHERE number = ?', directory)
      return file ? bytesOf(file['path']) : Buffer.from(`/node ${directory}`)
    }
    const [entry] = database.entriesWhere('directory = ? AND node = ?', row.parent, directory)
    return { directory: row.parent, name: entry?.name ?? Buffer.from(`node ${directory}`) }
  }

  return (placed) => {
    const parts: Buffer[] = []
    let [at, bytes]: [PlacedName | Buffer, number] = [placed, 0]
    while (!Buffer.isBuffer(at)) {
      const { directory, name }: PlacedName = at
      parts.push(name, Buffer.from('/'))
      bytes += name.length + 1
      if (bytes > mostBytes) at = Buffer.from('…')
      else at = typeof directory === 'number' ? nameOf(directory) : directory
    }
    return Buffer.concat([...parts, at].reverse())
  }
}
