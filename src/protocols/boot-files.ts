/** Finds the file of a boot tree that a machine asks for, and opens it safely. */
import { closeSync, constants, fstatSync, open, openSync } from 'node:fs'
import { realpath } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { promisify } from 'node:util'

import { errnoOf, messageOf, NetimageError } from '../errors.ts'
import { parseMac } from '../mac.ts'
import { liesBelow } from '../open-safely.ts'
import { notServed, type FileEvent } from './event.ts'
import { dropUnused, share, useShared, type SharedFile, type SharedUse } from './shared-files.ts'

const openLater = promisify(open)

/**
 * The client that asks. If the first folder of the requested name identifies a machine, one of
 * `mac`, `serial` and `ip` holds that identity.
 */
export interface Requester {
  /** The IP address of the client. */
  address: string
  /** The first request of TFTP is one datagram, whose sender may be forged. */
  protocol: 'tftp' | 'http'
  /** The name that it asks for. */
  file: string
  /** Lower case with colons. */
  mac?: string
  /** The serial number of a Raspberry Pi, in lower case. */
  serial?: string
  ip?: string
}

export interface BootTrees {
  /** The folder of the machine's own files. They take precedence over the files of the image. */
  own?: string
  /** The boot tree of its image. */
  image: string
}

/**
 * @returns undefined if the machine is not served
 * @throws `NetimageError` if the files of the machine cannot be served now; `in-use` if the machine
 *   should ask again
 */
export type TreesOf = (
  requester: Requester,
) => Promise<BootTrees | undefined> | BootTrees | undefined

export interface OpenBootFile {
  kind: 'file'
  /** If the file is replaced meanwhile, this is still the old file. */
  file: SharedFile
  /** To be called once, when the file is not needed any more. */
  close: () => void
}

/**
 * `not-served`: this machine is not served. `refused`: the name is invalid. `unreadable`: the file
 * exists, but it cannot be opened. `busy`: this server has no descriptor or memory left at the
 * moment, or another process uses what it needs; the machine should ask again.
 */
export interface NoBootFile {
  kind: 'missing' | 'not-served' | 'refused' | 'unreadable' | 'busy'
  reason: string
}

const steps = {
  missing: 'missing',
  'not-served': 'refuse',
  refused: 'fail',
  unreadable: 'fail',
  busy: 'fail',
} as const

/** What is reported of a file that a machine does not get. That a file is missing needs no reason. */
export function toldOf({ kind, reason }: NoBootFile): Pick<FileEvent, 'step' | 'reason'> {
  return { step: steps[kind], ...(kind !== 'missing' && { reason }) }
}

const maxNameBytes = 1024

/**
 * The first folder of a name may be the serial number, the hardware address or the IP address of a
 * machine. If this machine has files of its own, the rest of the name is looked up in these files,
 * then in its image. If it has none, the file is missing, and the machine asks again without the
 * folder.
 *
 * @param name the requested name, percent-decoded for HTTP; `/` is the root of the tree
 */
export async function openBootFile(
  treesOf: TreesOf,
  client: Pick<Requester, 'address' | 'protocol'>,
  name: string,
): Promise<OpenBootFile | NoBootFile> {
  const path = splitName(name)
  if (!path) return { kind: 'refused', reason: 'this name is not valid in a boot tree' }

  let found: [string, string[]][]
  try {
    const requester = { ...client, file: path.join('/') }
    const trees = await treesOf(requester)
    if (!trees) return { kind: 'not-served', reason: notServed }
    found = await candidates(treesOf, requester, trees, path)
  } catch (error) {
    if (!(error instanceof NetimageError)) throw error
    return { kind: error.code === 'in-use' ? 'busy' : 'unreadable', reason: error.message }
  }
  for (const [tree, parts] of found) {
    const opened = await openIn(tree, parts)
    if (opened.kind !== 'missing') return opened
  }
  return missing
}

const missing: NoBootFile = { kind: 'missing', reason: 'there is no such file' }

/** @returns undefined if a name could lead out of a tree, or if it is invalid */
function splitName(name: string): string[] | undefined {
  if (/[\0\\]/.test(name) || Buffer.byteLength(name) > maxNameBytes) return undefined
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  return parts.length === 0 || parts.includes('..') ? undefined : parts
}

async function candidates(
  treesOf: TreesOf,
  requester: Requester,
  ofAddress: BootTrees,
  path: string[],
): Promise<[string, string[]][]> {
  const [folder = '', ...rest] = path
  const named = machineOfFolder(folder)
  if (named && rest.length > 0) {
    const trees = await treesOf({ ...requester, ...named })
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

/**
 * A Raspberry Pi asks below its serial number or its hardware address (TFTP_PREFIX). PXELINUX uses
 * the hardware address with `01-` before it, or the IP address.
 */
function machineOfFolder(folder: string): Pick<Requester, 'mac' | 'serial' | 'ip'> | undefined {
  const name = folder.toLowerCase()
  if (/^([0-9a-f]{8}){1,2}$/.test(name)) return { serial: name }
  const mac = name.includes('-') ? parseMac(name.replace(/^01-(?=.{17}$)/, '')) : undefined
  if (mac !== undefined) return { mac }
  return /^\d{1,3}(\.\d{1,3}){3}$/.test(name) ? { ip: name } : undefined
}

const leadsOut: NoBootFile = { kind: 'refused', reason: 'a link leads out of the boot tree' }

const absent = new Set(['ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'EISDIR'])
/** Descriptors or memory ran out. This is temporary, and it must not end a boot. */
const passing = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN', 'EINTR'])

async function openIn(tree: string, parts: string[]): Promise<OpenBootFile | NoBootFile> {
  const path = join(tree, ...parts)
  try {
    const shared = useShared(path)
    if (shared) return opened(shared)
    const root = await realpath(tree)
    const real = await realpath(path)
    if (!real.startsWith(root + sep)) return leadsOut
    // O_NONBLOCK: do not wait for the other end of a FIFO. O_NOFOLLOW: the file may have been
    // replaced by a link since `realpath`.
    const fd = await openLater(
      real,
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    )
    let found: OpenBootFile | NoBootFile | undefined
    try {
      found = await lookAt(fd, tree, path)
      return found
    } finally {
      if (found?.kind !== 'file') closeSync(fd)
    }
  } catch (error) {
    const errno = errnoOf(error) ?? ''
    if (absent.has(errno)) return missing
    if (!passing.has(errno)) return { kind: 'unreadable', reason: messageOf(error) }
    dropUnused()
    return { kind: 'busy', reason: messageOf(error) }
  }
}

async function lookAt(fd: number, tree: string, path: string): Promise<OpenBootFile | NoBootFile> {
  const stat = fstatSync(fd, { bigint: true })
  if (!stat.isFile()) return missing
  // A directory of the path may have been replaced by a link since `realpath`.
  return isIn(tree, fd) ? opened(await share(path, fd, stat)) : leadsOut
}

function opened({ file, release }: SharedUse): OpenBootFile {
  return { kind: 'file', file, close: release }
}

function isIn(tree: string, fd: number): boolean {
  const directory = openSync(tree, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    return liesBelow(fd, directory)
  } finally {
    closeSync(directory)
  }
}
