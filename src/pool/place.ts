/**
 * Places a tree of the pool somewhere else: as clones, as hard links or as copies of its files.
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

/** How the files of an image come from the pool. */
export type PlaceMethod = 'reflink' | 'hardlink' | 'copy'

const slash = Buffer.from('/')

/** Thrown where a file that other trees share was written to since it was unpacked. */
export class TouchedTree extends Error {}

/** @param target must not exist; its parent must */
export function placeTree(source: string, target: string, method: PlaceMethod): void {
  const from = Buffer.from(source)
  const to = Buffer.from(target)
  const placeFile = filePlacers[method]
  // Ours: what another owner's link would carry along is not.
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
      // ZFS clones no file that it has not written out yet.
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

/** Too many links to one file, or none allowed. */
const unlinkable = new Set(['EMLINK', 'EPERM'])

function copyFile(from: Buffer, to: Buffer): void {
  copyFileSync(from, to, constants.COPYFILE_EXCL)
  utimesSync(to, storeTime, storeTime)
}

const storeModes = new Set([0o444, 0o555])

/** Whoever writes through one of a file's names writes to all of them, and moves the time. */
function isUntouched({ mtimeMs, mode }: Stats): boolean {
  return mtimeMs === storeTime * 1000 && storeModes.has(mode & 0o7777)
}
