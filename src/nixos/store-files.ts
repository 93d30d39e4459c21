/**
 * Files by their store paths. The tree of a store path may lie anywhere on this machine. Links are
 * followed as on the booted machine: from one store path into another, and never out of the store.
 */
import { constants } from 'node:fs'
import { lstat, open, readdir, readlink } from 'node:fs/promises'
import { join, posix } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { splitStorePath, storeDir, type StorePath } from '../nix/store-path.ts'

/** The directory or file that holds a store path on this machine; undefined if there is none. */
export type TreeOf = (path: StorePath) => Promise<string | undefined>

export interface StoreFile {
  /** The path in the store after all links were followed. */
  path: string
  /** The path on this machine. */
  real: string
  kind: 'file' | 'directory'
}

/** The files of a system by their store paths, wherever the store paths are kept. */
export interface StoreFiles {
  /** The file or directory at a path in the store, after all links were followed. */
  find(path: string): Promise<Pick<StoreFile, 'path' | 'kind'> | undefined>
  /** The text of a file; undefined if there is none. */
  text(path: string): Promise<string | undefined>
  /** The names in a directory, sorted; empty if there is no directory. */
  names(directory: string): Promise<string[]>
}

/** The files of store paths that are directories and files of this machine. */
export function storeFilesIn(treeOf: TreeOf): StoreFiles {
  return {
    find: (path) => findStoreFile(treeOf, path),
    text: (path) => readStoreText(treeOf, path),
    names: (directory) => listStoreDirectory(treeOf, directory),
  }
}

const maxLinks = 40
/** Larger than every text file that we read from a system. */
const maxTextBytes = 16 << 20

/** The file or directory at `path` (`/nix/store/…`), or undefined if there is none. */
export async function findStoreFile(treeOf: TreeOf, path: string): Promise<StoreFile | undefined> {
  // `walked` is the path so far, with all links resolved; `names` is the rest of the way.
  let walked: string[] = []
  const names = path.split('/')
  let links = 0
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    // What comes before them must be a directory: `file/.` leads nowhere.
    if (name === '' || name === '.') continue
    const next = name === '..' ? walked.slice(0, -1) : [...walked, name]
    const place = await locate(treeOf, next)
    if (!place || (place.kind === 'file' && names.length > 0)) return undefined
    if (place.kind !== 'link') {
      walked = next
      continue
    }
    if (++links > maxLinks) {
      throw new NetimageError('bad-system', `${path} leads through more than ${maxLinks} links`, {
        details: { path, expected: maxLinks },
      })
    }
    if (posix.isAbsolute(place.target)) walked = []
    names.unshift(...place.target.split('/'))
  }
  const place = await locate(treeOf, walked)
  return place?.kind === 'file' || place?.kind === 'directory' ? place : undefined
}

type Place = StoreFile | { kind: 'link'; target: string } | { kind: 'above the store' }

const aboveStore = new Set(['/', posix.dirname(storeDir), storeDir])

/** Looks up a path whose directories are no links. */
async function locate(treeOf: TreeOf, names: readonly string[]): Promise<Place | undefined> {
  const path = `/${names.join('/')}`
  if (aboveStore.has(path)) return { kind: 'above the store' }
  const split = splitStorePath(path)
  const tree = split && (await treeOf(split.storePath))
  if (!split || tree === undefined) return undefined
  const real = join(tree, split.rest)
  const stat = await lstat(real).catch((error: unknown) => {
    const errno = errnoOf(error)
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined
    throw fileSystemError(`could not read ${real}`, error)
  })
  if (!stat) return undefined
  if (stat.isSymbolicLink()) return { kind: 'link', target: await readlink(real) }
  if (stat.isDirectory()) return { path, real, kind: 'directory' }
  return stat.isFile() ? { path, real, kind: 'file' } : undefined
}

/** The text of the file at `path`, or undefined if there is none. */
export async function readStoreText(treeOf: TreeOf, path: string): Promise<string | undefined> {
  const file = await findStoreFile(treeOf, path)
  if (file?.kind !== 'file') return undefined
  try {
    await using handle = await open(file.real, constants.O_RDONLY)
    const { size } = await handle.stat()
    if (size > maxTextBytes) {
      throw new NetimageError(
        'bad-system',
        `${path} has ${size} bytes, but at most ${maxTextBytes} are read: this is no text of a system`,
        { details: { path, expected: maxTextBytes, actual: size } },
      )
    }
    return await handle.readFile('utf8')
  } catch (error) {
    throw fileSystemError(`could not read ${path} at ${file.real}`, error)
  }
}

/** The names in the directory at `path`, sorted; empty if there is no directory. */
export async function listStoreDirectory(treeOf: TreeOf, path: string): Promise<string[]> {
  const directory = await findStoreFile(treeOf, path)
  if (directory?.kind !== 'directory') return []
  return (await readdir(directory.real)).sort()
}
