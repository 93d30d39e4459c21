/**
 * The folder where a build makes an image. It lies beside the image's place, so that a rename puts
 * the image there.
 *
 * ```
 * .<name>.netimage-<random>/lock    held by the build that works in it
 * .<name>.netimage-<random>/image   becomes the image
 * .<name>.netimage-<random>/old     the old image, while it is replaced
 * ```
 */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { refuseCaseInsensitive } from '../case-sensitive.ts'
import { errnoOf, fileSystemError, messageOf, NetimageError } from '../errors.ts'
import { makeDirectoryForAll } from '../make-directory.ts'
import { tryLock, type Lock } from '../lock.ts'
import { removeTree, removeTrees } from '../remove-tree.ts'
import { syncDirectory } from '../sync-directory.ts'
import { removalCommand, tidy, type Warn } from '../tidy.ts'
import { lockToReplace } from './image-lock.ts'

const beginning = 'begin-'
const beginningMs = 60_000

export interface Staging {
  /** An empty directory that becomes the image. */
  image: string
  /** A directory for files that are not part of the image. */
  scratch: string
  /** Makes the whole image appear in its place, and replaces the old image if there is one. */
  publish(): Promise<void>
  close(): void
}

/**
 * Refuses to replace an image, unless `force` is set and nobody adds the image to a site.
 *
 * @throws `NetimageError` `output-exists`, `in-use`, `not-allowed`
 */
export async function refuseExisting(output: string, force: boolean): Promise<void> {
  const lock = await lockPlace(output, force)
  lock?.release()
}

/** @returns the lock of the image there, if it has one */
async function lockPlace(output: string, force: boolean): Promise<Lock | undefined> {
  if (!isThere(output)) return undefined
  if (force) return await lockToReplace(output)
  throw new NetimageError('output-exists', `${output} exists already`, {
    details: { file: output },
    hint: 'Name another place with -o, or replace it with --force.',
  })
}

function isThere(output: string): boolean {
  try {
    return lstatSync(output, { throwIfNoEntry: false }) !== undefined
  } catch (error) {
    throw fileSystemError(`could not look for an image at ${output}`, error)
  }
}

/** @param warn gets a message if something could not be cleaned up */
export async function openStaging(output: string, force: boolean, warn: Warn): Promise<Staging> {
  const parent = dirname(output)
  const prefix = `.${basename(output)}.netimage-`
  try {
    makeDirectoryForAll(parent)
    finishInterrupted(output, parent, prefix, warn)
    await refuseExisting(output, force)
    refuseForeign(output)
    // The commands' view of the machine has only the real path.
    const { directory, lock } = makeLocked(realpathSync(parent), prefix)
    const image = join(directory, 'image')
    const scratch = join(directory, 'scratch')
    mkdirSync(image)
    mkdirSync(scratch)
    try {
      refuseCaseInsensitive(directory, 'scratch', { is: 'the image’s place', flag: '-o' })
    } catch (error) {
      dismantle(directory, lock, warn)
      throw error
    }
    return {
      image,
      scratch,
      publish: () => publish(output, directory, force),
      close: () => dismantle(directory, lock, warn),
    }
  } catch (error) {
    throw fileSystemError(`could not begin the image ${output}`, error)
  }
}

/**
 * Other builds remove folders with the final name that are not locked. So lock the folder under
 * another name, then rename it.
 */
function makeLocked(parent: string, prefix: string): { directory: string; lock: Lock } {
  const unlocked = mkdtempSync(join(parent, `${prefix}${beginning}`))
  const lock = tryLock(join(unlocked, 'lock'), 'exclusive')
  if (!lock)
    throw new NetimageError('file-system', `could not lock ${unlocked}`, {
      details: { file: unlocked },
    })
  const directory = join(parent, prefix + basename(unlocked).slice(`${prefix}${beginning}`.length))
  renameSync(unlocked, directory)
  return { directory, lock }
}

async function publish(output: string, directory: string, force: boolean): Promise<void> {
  let lock: Lock | undefined
  try {
    lock = await lockPlace(output, force)
    refuseForeign(output)
    const old = join(directory, 'old')
    // Without --force, an image that another build has just put there stays: the rename fails.
    const replaced = force && existsSync(output)
    if (replaced) renameSync(output, old)
    try {
      renameSync(join(directory, 'image'), output)
    } catch (error) {
      if (replaced) renameSync(old, output)
      throw error
    }
    syncDirectory(dirname(output))
  } catch (error) {
    // Another build has put its image there since we looked. With --force, replace that one.
    if (force && errnoOf(error) === 'ENOTEMPTY') return await publish(output, directory, force)
    throw fileSystemError(`could not put the image at ${output}`, error)
  } finally {
    lock?.release()
  }
}

/** Even with --force, only images are replaced: `-o ~` would otherwise remove a home directory. */
function refuseForeign(output: string): void {
  const stat = lstatSync(output, { throwIfNoEntry: false })
  if (!stat) return
  const empty = stat.isDirectory() && readdirSync(output).length === 0
  // An image that raspberry-pi-nix built has no manifest, but it has these parts.
  const parts = ['nix-support', 'net-image']
  const image = stat.isDirectory() && parts.every((name) => existsSync(join(output, name)))
  if (empty || image) return
  throw new NetimageError('output-exists', `${output} exists and is not a net image`, {
    details: { file: output },
    hint: 'Name another place with -o: --force replaces only images.',
  })
}

/** @returns undefined if the build still runs, has just removed the folder, or is another user's */
function lockIfThere(directory: string, warn: Warn): Lock | undefined {
  try {
    return tryLock(join(directory, 'lock'), 'exclusive')
  } catch (error) {
    if (existsSync(directory)) {
      const command = removalCommand(directory)
      const why = `a build of another user left ${directory}, or still works in it`
      warn(`${why} (${messageOf(error)}). If no build runs, remove it with: ${command}`)
    }
    return undefined
  }
}

/** Whether a build that just began may still be about to lock the folder. */
function isYoung(directory: string): boolean {
  const stat = lstatSync(directory, { throwIfNoEntry: false })
  return !stat || Date.now() - stat.mtimeMs < beginningMs
}

/** Cleans up after killed builds. If one had begun to replace an image, puts its image in place. */
function finishInterrupted(output: string, parent: string, prefix: string, warn: Warn): void {
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(prefix)) continue
    const rest = name.slice(prefix.length)
    const begins = rest.startsWith(beginning)
    // mkdtemp adds six characters. Without this check, the image `a` would match `a.netimage-b`.
    if (!/^[A-Za-z0-9]{6}$/.test(begins ? rest.slice(beginning.length) : rest)) continue
    const directory = join(parent, name)
    if (begins && isYoung(directory)) continue
    const lock = lockIfThere(directory, warn)
    if (!lock) continue
    const [image, old] = [join(directory, 'image'), join(directory, 'old')]
    // The build was killed between the two renames. The new image is whole: only then does the old
    // image move.
    if (existsSync(old) && existsSync(image) && !existsSync(output)) renameSync(image, output)
    dismantle(directory, lock, warn)
  }
}

/**
 * Removes the lock last, so that a folder without a lock is empty. Another build that cleans up may
 * lock the folder again and remove it first. This is fine.
 */
function dismantle(directory: string, lock: Lock, warn: Warn): void {
  tidy(directory, warn, () => {
    const names = readdirIfThere(directory).filter((name) => name !== 'lock')
    removeTrees(names.map((name) => join(directory, name)))
    removeFolder(directory)
  })
  lock.release()
}

function readdirIfThere(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    return []
  }
}

function removeFolder(directory: string): void {
  try {
    removeTree(directory)
  } catch (error) {
    // Another build has just locked the folder. Or, on NFS and FUSE, the open lock file is still
    // there under another name. The next build removes the folder.
    if (errnoOf(error) !== 'ENOTEMPTY') throw error
  }
}
