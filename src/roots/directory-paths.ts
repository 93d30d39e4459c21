/** The paths of directories in a layer, to tell people about files in them. */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import type { LayerDatabase } from './database.ts'
import { isOwn, rootNode } from './numbers.ts'

/**
 * @returns gives the path of a directory outside the store paths of images, with a slash at its end.
 *   Paths are remembered.
 */
export function createDirectoryPaths(
  database: Pick<LayerDatabase, 'entriesWhere' | 'fileNumbers' | 'readNode'>,
): (directory: NodeId) => Buffer {
  const paths = new Map<NodeId, Buffer>([[rootNode, Buffer.from('/')]])
  let ofImages: Map<NodeId, Buffer> | undefined

  function find(directory: NodeId): Buffer {
    const row = isOwn(directory) ? database.readNode(directory) : undefined
    if (!row) {
      ofImages ??= new Map(database.fileNumbers().map(({ number, path }) => [number, path]))
      const path = ofImages.get(directory) ?? Buffer.from(`node ${directory}`)
      return Buffer.concat([path, Buffer.from('/')])
    }
    const [entry] = database.entriesWhere('directory = ? AND node = ?', row.parent, directory)
    const name = entry?.name ?? Buffer.from(`node ${directory}`)
    return Buffer.concat([pathOf(row.parent), name, Buffer.from('/')])
  }

  function pathOf(directory: NodeId): Buffer {
    const path = paths.get(directory) ?? find(directory)
    paths.set(directory, path)
    return path
  }

  return pathOf
}
