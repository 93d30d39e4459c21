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

import { joinBytes } from '../byte-paths.ts'
import { errnoOf, fileSystemError } from '../errors.ts'
import { storeTime } from '../nix/nar/restore.ts'

/** The way to get the files of an image from the pool. */
export type PlaceMethod = 'reflink' | 'hardlink' | 'copy'

/** Text where possible: a buffer for each path makes placing many small files slower by a fifth. */
type Path = string | Buffer

/** Thrown if somebody has written to a file of the pool since it was unpacked. */
export class TouchedTree extends Error {}

/** @param target must not exist; its parent must */
export function placeTree(source: string, target: string, method: PlaceMethod): void {
  const placeFile = filePlacers[method]
  // A hard link keeps the owner of the file. So we make links only to our own files.
  const owner = process.geteuid?.() ?? 0

  function placeDirectory(from: Path, to: Path): void {
    mkdirSync(to, 0o755)
    for (const entry of entriesOf(from)) {
      place(joinPath(from, entry.name), joinPath(to, entry.name), entry)
    }
    utimesSync(to, storeTime, storeTime)
    chmodSync(to, 0o555)
  }

  function place(from: Path, to: Path, kind: Pick<Dirent, 'isDirectory' | 'isSymbolicLink'>) {
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
    place(source, target, lstatSync(source))
  } catch (error) {
    if (error instanceof TouchedTree) throw error
    throw fileSystemError(`could not place ${source} at ${target}`, error)
  }
}

/** Node puts this character in the place of bytes that are not UTF-8. */
const replacement = '\ufffd'

function entriesOf(directory: Path): Dirent[] | Dirent<Buffer>[] {
  if (typeof directory === 'string') {
    const entries = readdirSync(directory, { withFileTypes: true })
    if (!entries.some(({ name }) => name.includes(replacement))) return entries
  }
  return readdirSync(directory, { withFileTypes: true, encoding: 'buffer' })
}

function joinPath(directory: Path, name: Path): Path {
  if (typeof directory === 'string' && typeof name === 'string') return `${directory}/${name}`
  return joinBytes(Buffer.from(directory), Buffer.from(name))
}

type PlaceFile = (from: Path, to: Path, stat: Stats, owner: number) => void

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

function copyFile(from: Path, to: Path): void {
  copyFileSync(from, to, constants.COPYFILE_EXCL)
  utimesSync(to, storeTime, storeTime)
}

const storeModes = new Set([0o444, 0o555])

/** A write through any hard link of a file changes the file's time stamp. */
export function isUntouched({ mtimeMs, mode }: Stats): boolean {
  return mtimeMs === storeTime * 1000 && storeModes.has(mode & 0o7777)
}
