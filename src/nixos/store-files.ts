/**
 * Files by their store paths, wherever the trees of those paths really lie. Links are followed as
 * the booted machine would: inside the store, from one store path into another.
 */
import { constants } from 'node:fs'
import { lstat, open, readdir, readlink } from 'node:fs/promises'
import { join, posix } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { splitStorePath, type StorePath } from '../nix/store-path.ts'

/** Where the tree of a store path lies on this machine; undefined where it is not to be had. */
export type TreeOf = (path: StorePath) => Promise<string | undefined>

export interface StoreFile {
  /** The path in the store after all links were followed. */
  path: string
  /** Where it lies on this machine. */
  real: string
  kind: 'file' | 'directory'
}

const maxLinks = 40
/** Larger than any text file of a system that we read. */
const maxTextBytes = 16 << 20

/** The file or directory at `path` (`/nix/store/…`), or undefined where there is none. */
export async function findStoreFile(treeOf: TreeOf, path: string): Promise<StoreFile | undefined> {
  let left = path
  for (let links = 0; links <= maxLinks; links++) {
    const split = splitStorePath(posix.normalize(left))
    const tree = split && (await treeOf(split.storePath))
    if (!split || tree === undefined) return undefined
    const walked = await walk(tree, split.storePath, split.rest.split('/').filter(Boolean))
    if (!walked) return undefined
    if ('found' in walked) return walked.found
    left = walked.next
  }
  throw new NetimageError('bad-system', `${path} leads through more than ${maxLinks} links`)
}

type Walked = { found: StoreFile } | { next: string } | undefined

/** Goes down from a store path until the end or the first link, which gives the next path. */
async function walk(tree: string, storePath: string, components: string[]): Promise<Walked> {
  let real = tree
  let path = storePath
  for (let index = 0; ; index++) {
    const stat = await lstat(real).catch((error: unknown) => {
      const errno = errnoOf(error)
      if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined
      throw fileSystemError(`could not read ${real}`, error)
    })
    if (!stat) return undefined
    if (stat.isSymbolicLink()) {
      const target = await readlink(real)
      const rest = components.slice(index).join('/')
      return { next: posix.resolve(posix.dirname(path), target, rest) }
    }
    const component = components[index]
    if (component === undefined) {
      if (stat.isDirectory()) return { found: { path, real, kind: 'directory' } }
      return stat.isFile() ? { found: { path, real, kind: 'file' } } : undefined
    }
    real = join(real, component)
    path = posix.join(path, component)
  }
}

/** The text of the file at `path`, or undefined where there is none. */
export async function readStoreText(treeOf: TreeOf, path: string): Promise<string | undefined> {
  const file = await findStoreFile(treeOf, path)
  if (file?.kind !== 'file') return undefined
  try {
    await using handle = await open(file.real, constants.O_RDONLY)
    const { size } = await handle.stat()
    if (size > maxTextBytes) {
      throw new NetimageError(
        'bad-system',
        `${path} has ${size} bytes: that is no text of a system`,
      )
    }
    return await handle.readFile('utf8')
  } catch (error) {
    throw fileSystemError(`could not read ${path} at ${file.real}`, error)
  }
}

/** The names in the directory at `path`, sorted; empty where there is none. */
export async function listStoreDirectory(treeOf: TreeOf, path: string): Promise<string[]> {
  const directory = await findStoreFile(treeOf, path)
  if (directory?.kind !== 'directory') return []
  return (await readdir(directory.real)).sort()
}
