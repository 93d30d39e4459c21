/**
 * Takes over a tree that somebody else may change at any moment: makes a tree of our own from it,
 * with the modes and times of a Nix store. The caller checks the hash of the new tree.
 */
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  type Dirent,
  type Stats,
} from 'node:fs'
import { dirname } from 'node:path'

import { joinBytes } from '../byte-paths.ts'
import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { storeTime } from '../nix/nar/restore.ts'
import { openRegularFile, pathOfDescriptor } from '../open-safely.ts'
import { isUntouched, type PlaceMethod } from './place.ts'

type Kind = Pick<Dirent, 'isDirectory' | 'isSymbolicLink'>

/**
 * A hard link is made only to a file that nobody but this user and root can write to. All other
 * files are copied.
 *
 * @param target must not exist; its parent must, and only this user can write to it
 */
export function adoptTree(source: string, target: string, method: PlaceMethod): void {
  const owner = lstatSync(dirname(target))

  function adopt(from: Buffer, to: Buffer, kind: Kind): void {
    if (kind.isDirectory()) {
      mkdirSync(to, 0o755)
      for (const entry of readdirSync(from, { withFileTypes: true, encoding: 'buffer' })) {
        adopt(joinBytes(from, entry.name), joinBytes(to, entry.name), entry)
      }
      utimesSync(to, storeTime, storeTime)
      chmodSync(to, 0o555)
    } else if (kind.isSymbolicLink()) {
      symlinkSync(readlinkSync(from, { encoding: 'buffer' }), to)
      lutimesSync(to, storeTime, storeTime)
    } else if (method !== 'hardlink' || !linkFile(from, to, owner)) {
      const isExecutable = copySafely(from, to, owner, method === 'reflink')
      chmodSync(to, isExecutable ? 0o555 : 0o444)
      utimesSync(to, storeTime, storeTime)
    }
  }

  try {
    const from = Buffer.from(source)
    adopt(from, Buffer.from(target), lstatSync(from))
  } catch (error) {
    throw fileSystemError(`could not take over ${source}`, error)
  }
}

/** Errors of link(2) if this file cannot be linked, but perhaps copied. */
const unlinkable = new Set(['EMLINK', 'EPERM', 'EACCES', 'EXDEV'])

/**
 * Looks at the file only through the new name, because somebody may replace the file at the old
 * name.
 *
 * @returns whether there is a link now
 */
function linkFile(from: Buffer, to: Buffer, owner: Stats): boolean {
  try {
    linkSync(from, to)
  } catch (error) {
    if (unlinkable.has(errnoOf(error) ?? '')) return false
    throw error
  }
  const stat = lstatSync(to)
  // The owner of a file can write to it again, whatever its mode is.
  const isOurs = isOneOf(stat.uid, [0, owner.uid]) && isOneOf(stat.gid, [0, owner.gid])
  if (isOurs && stat.isFile() && isUntouched(stat)) return true
  unlinkSync(to)
  return false
}

function isOneOf(id: number, ids: readonly number[]): boolean {
  return ids.includes(id)
}

/**
 * Copies a regular file. Follows no link at `from` and does not wait for a FIFO.
 *
 * @param owner of the copy: the directory of the copy
 * @param mustClone whether to fail if the file system cannot clone the file
 * @returns whether the owner of the file may execute it
 */
export function copySafely(from: Buffer, to: Buffer, owner: Stats, mustClone = false): boolean {
  const file = openOrRefuse(from)
  try {
    const flags = mustClone ? constants.COPYFILE_FICLONE_FORCE : constants.COPYFILE_FICLONE
    const source = pathOfDescriptor(file) ?? from
    try {
      copyFileSync(source, to, constants.COPYFILE_EXCL | flags)
    } catch (error) {
      // ZFS cannot clone a file that is not yet on the disk.
      if (errnoOf(error) !== 'EAGAIN') throw error
      copyFileSync(source, to, constants.COPYFILE_EXCL)
    }
    const { uid, gid, mode } = lstatSync(to)
    // If root copies a file, Node gives the copy to the owner of the source.
    if (uid !== owner.uid || gid !== owner.gid) lchownSync(to, owner.uid, owner.gid)
    return (mode & 0o100) !== 0
  } finally {
    closeSync(file)
  }
}

function openOrRefuse(path: Buffer): number {
  try {
    return openRegularFile(path)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno !== undefined && errno !== 'ELOOP' && errno !== 'ENXIO') throw error
    throw new NetimageError('image-damaged', `${path.toString()} is not a regular file`, {
      cause: error,
      details: { file: path.toString() },
      hint: 'Build the image again.',
    })
  }
}
