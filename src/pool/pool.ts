/**
 * The pool: our own verified, unpacked store paths on this machine. Each is unpacked once, and
 * images are made from it.
 *
 * ```
 * trees/<nar hash>/tree         what a NAR unpacks to
 * trees/<nar hash>/entry.json   its size, and when it was last known to be whole
 * scratch/<lease>/…             what a build has not finished yet
 * leases/<lease>                locked by each build while it runs
 * lock                          shared while entries are claimed, exclusive while they are removed
 * ```
 *
 * An entry's directory has the time at which it was last used.
 */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { homeFor } from '../home.ts'
import { digestToBase32 } from '../nix/hash.ts'
import type { PathInfo } from '../nix/path-info.ts'
import { makeDirectory } from '../make-directory.ts'
import { tidy, type Warn } from '../tidy.ts'
import { currentBootId, entryFile, formatEntry, parseEntry, treeName, type Entry } from './entry.ts'
import { tryLock, waitForLock, type Lock, type LockKind } from '../lock.ts'
import { endDeadLeases, removeSetAside, setAsideDamaged } from './removal.ts'

export interface Pool {
  readonly directory: string
  /** Where this build makes things that are not finished; removed with the lease. */
  readonly scratch: string
  /** A name in there that nothing has yet. */
  newScratch(): string
  /**
   * Looks for the trees of these paths and marks what is there as used, so that no garbage
   * collection takes it while this build runs.
   */
  claim(infos: Iterable<PathInfo>): Promise<Claim>
  entryPath(info: PathInfo): string
  treePath(info: PathInfo): string
  /** Takes a damaged entry out of the pool. */
  discard(info: PathInfo): void
  /** Records that a doubtful tree was hashed and is whole, if that can be written. */
  confirm(claimed: Claimed): void
  /** Ends the lease and removes what it did not finish. */
  close(): void
}

export interface Claim {
  /** Whole, and there to be used. */
  present: Claimed[]
  /**
   * From before the machine last started, of another user, or with a broken record: hashed before
   * they count.
   */
  doubtful: Claimed[]
  missing: PathInfo[]
}

export interface Claimed {
  info: PathInfo
  /** The size of the NAR in bytes, as it was when the entry was made, whatever `info` says. */
  narSize: number
}

export interface PoolFolders {
  trees: string
  scratch: string
  leases: string
  lock: string
}

/** Removal holds the lock for as long as renaming takes. */
const lockWaitMs = 60_000

export function defaultPoolDirectory(env: NodeJS.ProcessEnv = process.env): string {
  const home = homeFor('XDG_CACHE_HOME', env)
  if (home !== undefined) return join(home, 'netimage')
  throw new NetimageError('bad-usage', 'there is no home directory to keep the pool in', {
    hint: 'Name a directory with --pool, or set HOME or XDG_CACHE_HOME.',
  })
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
 * @param warn told what could not be cleaned up
 * @param signal ends the waiting for others who use the pool
 */
export async function openPool(where: string, warn: Warn, signal?: AbortSignal): Promise<Pool> {
  const directory = resolve(where)
  const folders = poolFolders(directory)
  // The time comes first, so that entries claimed later are never older than the lease.
  const lease = `${Date.now()}-${process.pid}-${randomBytes(4).toString('hex')}`
  const scratch = join(folders.scratch, lease)
  let leaseLock: Lock | undefined
  try {
    for (const folder of [folders.trees, folders.scratch, folders.leases]) {
      makeDirectory(folder)
    }
    // A lease that is not locked yet must not look dead to another build that starts now.
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

  let made = 0
  const newScratch = () => join(scratch, `${made++}`)
  const entryPath = (info: PathInfo) => join(folders.trees, digestToBase32(info.narHash))

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
          const claimed = { info, narSize: entry?.narSize ?? info.narSize }
          if (state === 'missing') claim.missing.push(info)
          else if (state === 'ours' && entry?.bootId === bootId) claim.present.push(claimed)
          else claim.doubtful.push(claimed)
        }
      }
      await withPoolLock(folders.lock, 'shared', look, signal)
      return claim
    },
    discard(info) {
      setAsideDamaged(entryPath(info), folders.scratch)
      removeSetAside(folders.scratch, warn)
    },
    confirm({ info, narSize }) {
      const file = join(entryPath(info), entryFile)
      const finished = newScratch()
      try {
        writeFileSync(finished, formatEntry({ narSize }))
        renameSync(finished, file)
      } catch (error) {
        // The entry of another user is hashed again by the next build.
        if (isForbidden(error)) return
        throw fileSystemError(`could not write ${file}`, error)
      }
    },
    close() {
      tidy(scratch, warn)
      tidy(join(folders.leases, lease), warn)
      leaseLock?.release()
    },
  }
}

/** Runs `action` while no garbage collection, or nobody else at all, touches the entries. */
export async function withPoolLock<T>(
  file: string,
  kind: LockKind,
  action: () => T,
  signal?: AbortSignal,
): Promise<T> {
  const lock = await waitForLock(file, kind, lockWaitMs, signal)
  if (!lock) {
    throw new NetimageError('file-system', `another netimage holds ${file} for over a minute`, {
      hint: 'Wait for the other build or garbage collection to end, then run this again.',
    })
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

/** Marks an entry as used now. That of another user cannot be marked, and may be anything. */
function touch(path: string): 'ours' | 'foreign' | 'missing' {
  const now = new Date()
  try {
    utimesSync(path, now, now)
    return 'ours'
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 'missing'
    if (isForbidden(error)) return 'foreign'
    throw fileSystemError(`could not look for ${path} in the pool`, error)
  }
}

function isForbidden(error: unknown): boolean {
  return ['EACCES', 'EPERM', 'EROFS'].includes(errnoOf(error) ?? '')
}
