/**
 * Copies the contents of a closed layer, file by file, while this process goes on with other work: a
 * layer can have more than a hundred thousand files.
 */
import { closeSync, constants, lstatSync, mkdirSync } from 'node:fs'
import { copyFile, opendir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'

import { errnoOf } from '../errors.ts'
import { openRegularFile, pathOfDescriptor } from '../open-safely.ts'
import { syncDirectorySoon } from '../sync-directory.ts'
import { isCopy } from './copies.ts'
import { copyBeginning } from './copy-file.ts'
import { dataFolder } from './data-files.ts'
import { databaseFile } from './database.ts'
import type { Floor } from './floor.ts'
import { syncFiles } from './sync-files.ts'

export interface CopySettings {
  /** Whether a copy is only wanted if it shares its data with the source. Default: no. */
  mustClone?: boolean
  /** The room that the copy must leave. Default: the copy may take the whole disk. */
  floor?: Floor
  signal?: AbortSignal | undefined
}

/**
 * Afterwards the copy is on the disk. On failure, there is no copy.
 *
 * @param from the contents of a layer whose lock the caller holds, or of a snapshot
 * @param to a directory that does not exist yet
 * @returns false if the file system cannot clone and the copy must be a clone; there is no copy then
 * @throws a system error, or the reason of the signal
 */
export async function copyContents(
  from: string,
  to: string,
  { mustClone = false, floor, signal }: CopySettings = {},
): Promise<boolean> {
  try {
    mkdirSync(dataFolder(to), { recursive: true })
    for await (const name of filesOf(from)) {
      signal?.throwIfAborted()
      floor?.take(0, 1)
      const [source, copy] = [join(from, name), join(to, name)]
      if (await clone(source, copy, mustClone)) continue
      if (mustClone) {
        await rm(to, { recursive: true, force: true })
        return false
      }
      await copyBeginning(
        () => openRegularFile(source),
        copy,
        Infinity,
        (piece) => {
          signal?.throwIfAborted()
          floor?.take(piece)
        },
      )
    }
    await syncFiles(to, () => filesOf(to))
    for (const directory of [dataFolder(to), to]) await syncDirectorySoon(directory)
    return true
  } catch (error) {
    await rm(to, { recursive: true, force: true })
    throw error
  }
}

/** The database comes first. */
async function* filesOf(contents: string): AsyncGenerator<string> {
  const database = databaseFile(contents)
  if (isThere(database)) yield basename(database)
  const data = dataFolder(contents)
  if (!isThere(data)) return
  for await (const { name } of await opendir(data)) {
    // A server that was killed may have left a copy of a large file that it had not finished.
    if (!isCopy(name)) yield join(basename(data), name)
  }
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined
}

/** The errors of FICLONE [ioctl_ficlone(2)] that say that these files cannot share data. */
const cannotClone = new Set(['ENOTSUP', 'EOPNOTSUPP', 'ENOTTY', 'ENOSYS', 'EINVAL', 'EXDEV'])
/** After these errors, copying the data would only take more of the disk. */
const ofDisk = new Set(['ENOSPC', 'EDQUOT', 'EIO'])

/** @returns whether the copy was made. After an unknown error, a copy that need not be a clone is tried. */
async function clone(from: string, to: string, mustClone: boolean): Promise<boolean> {
  const source = openRegularFile(from)
  try {
    const path = pathOfDescriptor(source)
    if (path === undefined) return false
    await copyFile(path, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE)
    return true
  } catch (error) {
    const errno = errnoOf(error) ?? ''
    if (mustClone ? !cannotClone.has(errno) : ofDisk.has(errno)) throw error
    return false
  } finally {
    closeSync(source)
  }
}
