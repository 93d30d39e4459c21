/** Finds nodes and reads small files in the root of a machine, as the server needs them. */
import type { FileSystem, NodeId } from '../protocols/nfs/file-system.ts'

type FileSystemToRead = Pick<FileSystem, 'root' | 'attributes' | 'lookup' | 'read'>

/**
 * Follows no links: the machine must not lead the server to another place.
 *
 * @param names of the way from the root
 * @returns undefined if a name is missing, or if a node on the way is not a directory
 * @throws `FileSystemError`
 */
export function findNode(
  fileSystem: Pick<FileSystemToRead, 'root' | 'attributes' | 'lookup'>,
  names: readonly string[],
): NodeId | undefined {
  let node: NodeId | undefined = fileSystem.root
  for (const name of names) {
    if (node === undefined || fileSystem.attributes(node).kind !== 'directory') return undefined
    node = fileSystem.lookup(node, Buffer.from(name))
  }
  return node
}

/**
 * @param most bytes that are read; the rest of a longer file is left out
 * @returns undefined if there is no regular file
 * @throws as `findNode`
 */
export function readSmallFile(
  fileSystem: FileSystemToRead,
  names: readonly string[],
  most: number,
): string | undefined {
  const file = findNode(fileSystem, names)
  if (file === undefined || fileSystem.attributes(file).kind !== 'file') return undefined
  const bytes = Buffer.alloc(most)
  return bytes.toString('utf8', 0, fileSystem.read(file, 0, bytes))
}
