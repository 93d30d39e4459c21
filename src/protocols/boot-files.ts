/** Which file of a boot tree a machine means by a name, and the one way to open it. */
import { closeSync, constants, fstatSync, openSync, type BigIntStats } from 'node:fs'
import { open, realpath, type FileHandle } from 'node:fs/promises'
import { join, sep } from 'node:path'

import { errnoOf, messageOf, NetimageError } from '../errors.ts'
import { parseMac } from '../mac.ts'
import { liesBelow } from '../open-safely.ts'
import { notServed } from './event.ts'

/** Who asks, and whose files it says it wants: one of the others, by the folder that it names. */
export interface Requester {
  /** Where it asks from: IP. */
  address: string
  /** Lower case with colons. */
  mac?: string
  /** In lower case, as a Raspberry Pi has it. */
  serial?: string
  ip?: string
}

export interface BootTrees {
  /** The folder of the machine's own files: they stand before those of the image. */
  own?: string
  /** The boot tree of its image. */
  image: string
}

/**
 * @returns undefined for a machine that is not to be booted
 * @throws `NetimageError` if its files cannot be given out now
 */
export type TreesOf = (
  requester: Requester,
) => Promise<BootTrees | undefined> | BootTrees | undefined

/** Whoever gets it closes it. What is read of it stays the same if the name leads elsewhere. */
export interface OpenBootFile {
  kind: 'file'
  handle: FileHandle
  /** Bytes. */
  size: number
  /** Milliseconds since 1970. */
  modified: number
  /** Another one whenever the file may have another content. */
  tag: string
}

/**
 * `not-served`: not to this machine. `refused`: no such name can be. `unreadable`: it is there, but
 * it cannot be opened. `busy`: this machine is short of something for a moment: ask again.
 */
export interface NoBootFile {
  kind: 'missing' | 'not-served' | 'refused' | 'unreadable' | 'busy'
  reason: string
}

const maxNameBytes = 1024

/**
 * A machine that asks below a folder of its own (its serial, its hardware or its IP address) gets
 * its own files or its image's, if it has files of its own; else it learns that there is no such
 * folder, and asks anew without.
 *
 * @param name as it came, percent-decoded where the protocol has that; `/` is the root of the tree
 */
export async function openBootFile(
  treesOf: TreesOf,
  address: string,
  name: string,
): Promise<OpenBootFile | NoBootFile> {
  const path = splitName(name)
  if (!path) return { kind: 'refused', reason: 'this name cannot be one of a boot tree' }

  let found: [string, string[]][]
  try {
    const trees = await treesOf({ address })
    if (!trees) return { kind: 'not-served', reason: notServed }
    found = await candidates(treesOf, address, trees, path)
  } catch (error) {
    if (!(error instanceof NetimageError)) throw error
    return { kind: 'unreadable', reason: error.message }
  }
  for (const [tree, parts] of found) {
    const opened = await openIn(tree, parts)
    if (opened.kind !== 'missing') return opened
  }
  return missing
}

const missing: NoBootFile = { kind: 'missing', reason: 'there is no such file' }

/** @returns undefined where a name could lead out of a tree, or is none */
function splitName(name: string): string[] | undefined {
  if (/[\0\\]/.test(name) || Buffer.byteLength(name) > maxNameBytes) return undefined
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  return parts.length === 0 || parts.includes('..') ? undefined : parts
}

async function candidates(
  treesOf: TreesOf,
  address: string,
  ofAddress: BootTrees,
  path: string[],
): Promise<[string, string[]][]> {
  const [folder = '', ...rest] = path
  const named = machineOfFolder(folder)
  if (named && rest.length > 0) {
    const trees = await treesOf({ address, ...named })
    if (trees?.own !== undefined) {
      return [
        [trees.own, rest],
        [trees.image, rest],
      ]
    }
  }
  const { own, image } = ofAddress
  const inImage: [string, string[]] = [image, path]
  return own === undefined ? [inImage] : [[own, path], inImage]
}

/** Raspberry Pis ask below one of the first two, by their TFTP_PREFIX; PXELINUX has the third. */
function machineOfFolder(folder: string): Omit<Requester, 'address'> | undefined {
  const name = folder.toLowerCase()
  if (/^([0-9a-f]{8}){1,2}$/.test(name)) return { serial: name }
  const mac = name.includes('-') ? parseMac(name.replace(/^01-(?=.{17}$)/, '')) : undefined
  if (mac !== undefined) return { mac }
  return /^\d{1,3}(\.\d{1,3}){3}$/.test(name) ? { ip: name } : undefined
}

const leadsOut: NoBootFile = { kind: 'refused', reason: 'a link leads out of the boot tree' }

const absent = new Set(['ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'EISDIR'])
/** Descriptors or memory ran out: that passes, and must not end a boot. */
const passing = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN', 'EINTR'])

async function openIn(tree: string, parts: string[]): Promise<OpenBootFile | NoBootFile> {
  try {
    const root = await realpath(tree)
    const path = await realpath(join(root, ...parts))
    if (!path.startsWith(root + sep)) {
      return leadsOut
    }
    // Never waits for the other end of a FIFO; and what has become a link meanwhile is not followed.
    const handle = await open(
      path,
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    )
    let found: OpenBootFile | NoBootFile | undefined
    try {
      found = lookAt(handle, tree)
      return found
    } finally {
      if (found?.kind !== 'file') await handle.close()
    }
  } catch (error) {
    const errno = errnoOf(error) ?? ''
    if (absent.has(errno)) return missing
    return { kind: passing.has(errno) ? 'busy' : 'unreadable', reason: messageOf(error) }
  }
}

function lookAt(handle: FileHandle, tree: string): OpenBootFile | NoBootFile {
  const stat = fstatSync(handle.fd, { bigint: true })
  if (!stat.isFile()) return missing
  // A directory on the way may have become a link since `realpath` looked at it.
  if (!isIn(tree, handle)) return leadsOut
  const [size, modified] = [Number(stat.size), Number(stat.mtimeMs)]
  return { kind: 'file', handle, size, modified, tag: tagOf(stat) }
}

function isIn(tree: string, { fd }: FileHandle): boolean {
  const directory = openSync(tree, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    return liesBelow(fd, directory)
  } finally {
    closeSync(directory)
  }
}

function tagOf({ ino, size, mtimeNs }: BigIntStats): string {
  return [ino, size, mtimeNs].map((part) => part.toString(16)).join('-')
}

/**
 * To be asked before the end of a file is sent: half of an old content and half of a new one would
 * be worse than nothing.
 */
export function hasChanged({ handle, tag }: OpenBootFile): boolean {
  return tagOf(fstatSync(handle.fd, { bigint: true })) !== tag
}
