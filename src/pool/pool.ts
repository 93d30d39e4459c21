/**
 * The pool: verified, unpacked store paths on this machine. Each store path is unpacked once, and
 * images are made from the pool.
 *
 * ```
 * trees/<nar hash>/tree         the unpacked NAR
 * trees/<nar hash>/entry.json   its size, and the boot in which it was last known to be whole
 * scratch/<lease>/…             unfinished files of a build
 * leases/<lease>                locked by each build while it runs
 * lock                          shared to claim entries, exclusive to remove entries
 * ```
 *
 * The time stamp of an entry's directory is the time of its last use.
 */
import { randomBytes } from 'node:crypto'
import { lstatSync, mkdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { ownDirectory } from '../home.ts'
import { digestToBase32 } from '../nix/hash.ts'
import type { PathInfo } from '../nix/path-info.ts'
import { makeDirectory } from '../make-directory.ts'
import type { TreeSecret } from '../secrets.ts'
import { tidy, type Warn } from '../tidy.ts'
import { currentBootId, entryFile, formatEntry, parseEntry, treeName, type Entry } from './entry.ts'
import { tryLock, waitForLock, type Lock, type LockKind } from '../lock.ts'
import { endDeadLeases, removeSetAside, setAsideDamaged } from './removal.ts'

export interface Pool {
  readonly directory: string
  /** The directory for unfinished files of this build. `close` removes it. */
  readonly scratch: string
  /** A new path in the scratch directory. */
  newScratch(): string
  /**
   * Looks for the entries of these paths and marks them as used, so that no garbage collection
   * removes them while this build runs.
   */
  claim(infos: Iterable<PathInfo>): Promise<Claim>
  entryPath(info: PathInfo): string
  treePath(info: PathInfo): string
  /** Removes a damaged entry from the pool. */
  discard(info: PathInfo): void
  /** Records that a doubtful entry is whole, if this user may write the record. */
  confirm(claimed: Claimed): void
  /** The secrets in an entry of this user, if somebody has looked for them. */
  secretsIn(info: PathInfo): TreeSecret[] | undefined
  /** Records the secrets in an entry that this build uses, if it is an entry of this user. */
  keepSecrets(info: PathInfo, secrets: TreeSecret[]): void
  /** Ends the lease and removes unfinished files. */
  close(): void
}

export interface Claim {
  /** Entries that are ready for use. */
  present: Claimed[]
  /**
   * Entries from before the machine last started, of another user, or with a broken record. They
   * must be hashed before use.
   */
  doubtful: Claimed[]
  missing: PathInfo[]
}

export interface Claimed {
  info: PathInfo
  /** The size of the NAR in bytes, from the entry's record. `info` may have a wrong size. */
  narSize: number
  /** The secrets in the tree, from the entry's record. */
  secrets: TreeSecret[] | undefined
}

export interface PoolFolders {
  trees: string
  scratch: string
  leases: string
  lock: string
}

/** Garbage collection holds the lock only while it renames entries. */
const lockWaitMs = 60_000

export function defaultPoolDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return ownDirectory('XDG_CACHE_HOME', '--pool', env)
}

export function poolFolders(directory: string): PoolFolders {
  return {
    trees: join(directory, 'trees'),
    scratch: join(directory, 'scratch'),
    leases: join(directory, 'leases'),
    lock: join(directory, 'lock'),
  }
}

/**
 * @param warn gets a message about each leftover that could not be removed
 * @param signal ends the wait for other builds that use the pool
 */
export async function openPool(where: string, warn: Warn, signal?: AbortSignal): Promise<Pool> {
  const directory = resolve(where)
  const folders = poolFolders(directory)
  // Take the time first, so that the entries that this build claims are never older.
  const lease = `${Date.now()}-${process.pid}-${randomBytes(4).toString('hex')}`
  const scratch = join(folders.scratch, lease)
  let leaseLock: Lock | undefined
  try {
    for (const folder of [folders.trees, folders.scratch, folders.leases]) {
      makeDirectory(folder)
    }
    // Make the lease under the lock: another build would take an unlocked lease for a dead one.
    await withPoolLock(
      folders.lock,
      'exclusive',
      () => {
        endDeadLeases(folders, warn)
        leaseLock = tryLock(join(folders.leases, lease), 'exclusive')
        mkdirSync(scratch)
      },
      signal,
    )
    removeSetAside(folders.scratch, warn)
  } catch (error) {
    leaseLock?.release()
    throw fileSystemError(`could not open the pool ${directory}`, error)
  }

  /** Entries of other users that this build has hashed: we cannot record that on the disk. */
  const hashed = new Set<string>()
  let made = 0
  const newScratch = () => join(scratch, `${made++}`)
  const entryPath = (info: PathInfo) => join(folders.trees, digestToBase32(info.narHash))
  /** Entries of other users are not believed. */
  const readOwn = (info: PathInfo) =>
    isOwn(entryPath(info)) ? readEntry(entryPath(info)) : undefined

  /** Replaces the record of an entry, if this user may write to the entry. */
  function writeEntry(info: PathInfo, record: Omit<Entry, 'bootId'>): void {
    const file = join(entryPath(info), entryFile)
    const finished = newScratch()
    try {
      writeFileSync(finished, formatEntry(record))
      renameSync(finished, file)
    } catch (error) {
      if (isForbidden(error)) return
      throw fileSystemError(`could not write ${file}`, error)
    }
  }

  return {
    directory,
    scratch,
    newScratch,
    entryPath,
    treePath: (info) => join(entryPath(info), treeName),
    async claim(infos) {
      const claim: Claim = { present: [], doubtful: [], missing: [] }
      const bootId = currentBootId()
      const look = () => {
        for (const info of infos) {
          const path = entryPath(info)
          const state = touch(path)
          const entry = state === 'missing' ? undefined : readEntry(path)
          const secrets = state === 'ours' ? entry?.secrets : undefined
          const claimed = { info, narSize: entry?.narSize ?? info.narSize, secrets }
          if (state === 'missing') claim.missing.push(info)
          else if (state === 'ours' && entry?.bootId === bootId) claim.present.push(claimed)
          else if (entry && hashed.has(path)) claim.present.push(claimed)
          else claim.doubtful.push(claimed)
        }
      }
      await withPoolLock(folders.lock, 'shared', look, signal)
      return claim
    },
    discard(info) {
      hashed.delete(entryPath(info))
      setAsideDamaged(entryPath(info), folders.scratch)
      removeSetAside(folders.scratch, warn)
    },
    confirm({ info, narSize, secrets }) {
      hashed.add(entryPath(info))
      // If the entry belongs to another user, the next build hashes it again.
      writeEntry(info, { narSize, secrets })
    },
    secretsIn: (info) => readOwn(info)?.secrets,
    keepSecrets(info, secrets) {
      const entry = readOwn(info)
      if (entry) writeEntry(info, { narSize: entry.narSize, secrets })
    },
    close() {
      tidy(scratch, warn)
      tidy(join(folders.leases, lease), warn)
      leaseLock?.release()
    },
  }
}

/** Runs `action` with the lock of the pool, which excludes garbage collection. */
export async function withPoolLock<T>(
  file: string,
  kind: LockKind,
  action: () => T,
  signal?: AbortSignal,
): Promise<T> {
  const lock = await waitForLock(file, kind, lockWaitMs, signal)
  if (!lock) {
    throw new NetimageError(
      'file-system',
      `could not lock ${file}: another netimage has held the lock for over a minute`,
      {
        hint: 'Wait for the other build or garbage collection to end, then run this again.',
        details: { file },
      },
    )
  }
  try {
    return action()
  } finally {
    lock.release()
  }
}

function readEntry(path: string): Entry | undefined {
  try {
    return parseEntry(readFileSync(join(path, entryFile), 'utf8'))
  } catch {
    return undefined
  }
}

/**
 * Marks an entry as used now. We do not trust the entries of another user, and usually cannot mark
 * them. But root can mark the entries of every user, so look at the owner as well.
 */
function touch(path: string): 'ours' | 'foreign' | 'missing' {
  const now = new Date()
  try {
    utimesSync(path, now, now)
    return isOwn(path) ? 'ours' : 'foreign'
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 'missing'
    if (isForbidden(error)) return 'foreign'
    throw fileSystemError(`could not look for ${path} in the pool`, error)
  }
}

function isOwn(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.uid === (process.geteuid?.() ?? 0)
}

function isForbidden(error: unknown): boolean {
  return ['EACCES', 'EPERM', 'EROFS'].includes(errnoOf(error) ?? '')
}
