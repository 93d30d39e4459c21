/**
 * Files by their store paths, wherever the trees of those paths really lie. Links are followed as
 * the booted machine would: inside the store, from one store path into another.
 */
import { constants } from 'node:fs'
import { lstat, open, readdir, readlink } from 'node:fs/promises'
import { join, posix } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { splitStorePath, storeDir, type StorePath } from '../nix/store-path.ts'

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
  // The names that were gone, with no links left in them, and those that are still to be gone.
  let walked: string[] = []
  const names = namesOf(path)
  let links = 0
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    const next = name === '..' ? walked.slice(0, -1) : [...walked, name]
    const place = await locate(treeOf, next)
    if (!place || (place.kind === 'file' && names.length > 0)) return undefined
    if (place.kind !== 'link') {
      walked = next
      continue
    }
    if (++links > maxLinks) {
      throw new NetimageError('bad-system', `${path} leads through more than ${maxLinks} links`)
    }
    if (posix.isAbsolute(place.target)) walked = []
    names.unshift(...namesOf(place.target))
  }
  const place = await locate(treeOf, walked)
  return place?.kind === 'file' || place?.kind === 'directory' ? place : undefined
}

function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.')
}

type Place = StoreFile | { kind: 'link'; target: string } | { kind: 'above the store' }

const aboveStore = new Set(['/', posix.dirname(storeDir), storeDir])

/** What lies at a path whose directories are no links. */
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
