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
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { homeFor } from '../home.ts'
import { digestToBase32 } from '../nix/hash.ts'
import type { PathInfo } from '../nix/path-info.ts'
import { makeDirectory } from '../make-directory.ts'
import { removeTree } from '../remove-tree.ts'
import { currentBootId, entryFile, formatEntry, parseEntry, treeName, type Entry } from './entry.ts'
import { acquireLock, type Lock } from '../lock.ts'

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
  claim(infos: Iterable<PathInfo>): Claim
  entryPath(info: PathInfo): string
  treePath(info: PathInfo): string
  /** Takes an entry out of the pool. */
  discard(info: PathInfo): void
  /** Records that a doubtful tree was hashed and is whole. */
  confirm(claimed: Claimed): void
  /** Ends the lease and removes what it did not finish. */
  close(): void
}

export interface Claim {
  /** Whole, and there to be used. */
  present: Claimed[]
  /** From before the machine last started, or with a broken record: hashed before they count. */
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

const gravePrefix = 'removed-'

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

export function openPool(where: string): Pool {
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
    withPoolLock(folders.lock, 'exclusive', () => {
      buryDeadLeases(folders)
      leaseLock = acquireLock(join(folders.leases, lease), 'exclusive', 0)
      mkdirSync(scratch)
    })
    removeGraves(folders)
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
    claim(infos) {
      const claim: Claim = { present: [], doubtful: [], missing: [] }
      const bootId = currentBootId()
      withPoolLock(folders.lock, 'shared', () => {
        for (const info of infos) {
          const path = entryPath(info)
          const entry = readEntry(path)
          const claimed = { info, narSize: entry?.narSize ?? info.narSize }
          if (!touch(path)) claim.missing.push(info)
          else if (entry?.bootId === bootId) claim.present.push(claimed)
          else claim.doubtful.push(claimed)
        }
      })
      return claim
    },
    discard(info) {
      bury(entryPath(info), folders.scratch)
      removeGraves(folders)
    },
    confirm({ info, narSize }) {
      const file = join(entryPath(info), entryFile)
      const finished = newScratch()
      try {
        writeFileSync(finished, formatEntry({ narSize }))
        renameSync(finished, file)
      } catch (error) {
        throw fileSystemError(`could not write ${file}`, error)
      }
    },
    close() {
      removeTree(scratch)
      rmSync(join(folders.leases, lease), { force: true })
      leaseLock?.release()
    },
  }
}

/** Runs `action` while no garbage collection, or nobody else at all, touches the entries. */
export function withPoolLock<T>(file: string, kind: 'shared' | 'exclusive', action: () => T): T {
  const lock = acquireLock(file, kind, lockWaitMs)
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

function touch(path: string): boolean {
  const now = new Date()
  try {
    utimesSync(path, now, now)
    return true
  } catch {
    return false
  }
}

/** The time at which a lease's build began, in milliseconds since 1970. */
export function leaseTime(lease: string): number {
  return Number.parseInt(lease, 10) || 0
}

/**
 * Ends the leases of builds that no longer run, and buries what they left. To be called with the
 * pool's lock held.
 *
 * @returns the leases of builds that run
 */
export function buryDeadLeases(folders: PoolFolders): string[] {
  const living: string[] = []
  for (const lease of readdirSync(folders.leases)) {
    const file = join(folders.leases, lease)
    const lock = acquireLock(file, 'exclusive', 0)
    if (!lock) {
      living.push(lease)
      continue
    }
    bury(join(folders.scratch, lease), folders.scratch)
    rmSync(file, { force: true })
    lock.release()
  }
  return living
}

/** Takes something out of sight at once, to be removed when there is time. */
export function bury(path: string, scratch: string): void {
  try {
    renameSync(path, join(scratch, `${gravePrefix}${randomBytes(6).toString('hex')}`))
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

export function removeGraves(folders: PoolFolders): void {
  for (const name of readdirSync(folders.scratch)) {
    if (name.startsWith(gravePrefix)) removeTree(join(folders.scratch, name))
  }
}
