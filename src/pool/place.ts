/**
 * Places a tree of the pool in an image: as clones, hard links or copies of its files.
 */
import {
  chmodSync,
  constants,
  copyFileSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  type Dirent,
  type Stats,
} from 'node:fs'

import { errnoOf, fileSystemError } from '../errors.ts'
import { storeTime } from '../nix/nar/restore.ts'

/** The way to get the files of an image from the pool. */
export type PlaceMethod = 'reflink' | 'hardlink' | 'copy'

const slash = Buffer.from('/')

/** Thrown if somebody has written to a file of the pool since it was unpacked. */
export class TouchedTree extends Error {}

/** @param target must not exist; its parent must */
export function placeTree(source: string, target: string, method: PlaceMethod): void {
  const from = Buffer.from(source)
  const to = Buffer.from(target)
  const placeFile = filePlacers[method]
  // A hard link keeps the owner of the file. So we make links only to our own files.
  const owner = process.geteuid?.() ?? 0

  function placeDirectory(from: Buffer, to: Buffer): void {
    mkdirSync(to, 0o755)
    for (const entry of readdirSync(from, { withFileTypes: true, encoding: 'buffer' })) {
      const path = Buffer.concat([from, slash, entry.name])
      place(path, Buffer.concat([to, slash, entry.name]), entry)
    }
    utimesSync(to, storeTime, storeTime)
    chmodSync(to, 0o555)
  }

  function place(from: Buffer, to: Buffer, kind: Pick<Dirent, 'isDirectory' | 'isSymbolicLink'>) {
    if (kind.isDirectory()) placeDirectory(from, to)
    else if (kind.isSymbolicLink()) {
      symlinkSync(readlinkSync(from, { encoding: 'buffer' }), to)
      lutimesSync(to, storeTime, storeTime)
    } else {
      const stat = lstatSync(from)
      if (!isUntouched(stat)) throw new TouchedTree()
      placeFile(from, to, stat, owner)
    }
  }

  try {
    place(from, to, lstatSync(from))
  } catch (error) {
    if (error instanceof TouchedTree) throw error
    throw fileSystemError(`could not place ${source} at ${target}`, error)
  }
}

type PlaceFile = (from: Buffer, to: Buffer, stat: Stats, owner: number) => void

const filePlacers: Record<PlaceMethod, PlaceFile> = {
  reflink(from, to) {
    try {
      copyFileSync(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE)
    } catch (error) {
      // ZFS cannot clone a file that is not yet on the disk.
      if (errnoOf(error) !== 'EAGAIN') throw error
      return copyFile(from, to)
    }
    utimesSync(to, storeTime, storeTime)
  },
  hardlink(from, to, { uid }, owner) {
    if (uid !== owner) return copyFile(from, to)
    try {
      linkSync(from, to)
    } catch (error) {
      if (!unlinkable.has(errnoOf(error) ?? '')) throw error
      copyFile(from, to)
    }
  },
  copy: copyFile,
}

/** The file has too many links, or hard links are not allowed. */
const unlinkable = new Set(['EMLINK', 'EPERM'])

function copyFile(from: Buffer, to: Buffer): void {
  copyFileSync(from, to, constants.COPYFILE_EXCL)
  utimesSync(to, storeTime, storeTime)
}

const storeModes = new Set([0o444, 0o555])

/** A write through any hard link of a file changes the file's time stamp. */
export function isUntouched({ mtimeMs, mode }: Stats): boolean {
  return mtimeMs === storeTime * 1000 && storeModes.has(mode & 0o7777)
}
