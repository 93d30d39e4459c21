/** The state directory: data about machines that a server keeps between its runs. */
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { ownDirectory } from '../home.ts'
import { tryLock, waitForLock, type Lock } from '../lock.ts'
import { makeDirectory } from '../make-directory.ts'

/** @param named by the user; default: `/var/lib/netimage` for root, else below the home */
export function stateDirectory(
  named: string | undefined,
  env: NodeJS.ProcessEnv = process.env,
): string {
  if (named !== undefined) return resolve(named)
  if (process.geteuid?.() === 0) return '/var/lib/netimage'
  return ownDirectory('XDG_STATE_HOME', '--state', env)
}

const forOthers = 0o077
const sticky = 0o1000
const serverLock = 'server.lock'
const keyFile = 'handle-key'
/** Names that a server makes there, that users put there for it, or that a disk's root has. */
const ownNames =
  /^(?:boot|layers|images|(?:images|server|shards)\.lock|store|published|secrets|handle-key.*|(?:boots|leases|site)\.sqlite.*|lost\+found)$/

/**
 * Makes the directory if there is none, and keeps all other users out of it. They could read the
 * files and secrets of machines, and hold the locks of layers. If the directory is also for other
 * things, such as /tmp, it is refused and not closed to its other users.
 *
 * @throws `NetimageError` `file-system`, `bad-option`
 */
export function openState(state: string): void {
  try {
    makeDirectory(state, 0o700)
    const { mode } = statSync(state)
    const names = readdirSync(state)
    if (mode & forOthers) {
      const others = names.filter((name) => !ownNames.test(name))
      const isShared = others.length > 0 && !names.includes(keyFile)
      if (isShared || mode & sticky) throw sharedDirectory(state)
      chmodSync(state, 0o700)
    }
    for (const name of names.filter((each) => ownNames.test(each))) closeFile(join(state, name))
  } catch (error) {
    const hint = 'Make the directory your own (chown), or name another one with --state.'
    throw fileSystemError(`could not keep other users out of ${state}`, error, { hint })
  }
}

/** The file may be gone: another netimage may end at the same time and remove its own files. */
function closeFile(file: string): void {
  const stat = lstatSync(file, { throwIfNoEntry: false })
  if (stat?.isFile() && stat.mode & forOthers) chmodSync(file, stat.mode & 0o700)
}

/**
 * Keeps other servers out of the state directory until the lock is released. Two servers would each
 * believe that it alone answers the machines: each would take the attempts of the other for attempts
 * that the end of a server has interrupted.
 *
 * @throws `NetimageError` `in-use`, `not-allowed`, `file-system`, `disk-full`
 */
export function lockState(state: string): Lock {
  const file = join(state, serverLock)
  let lock: Lock | undefined
  try {
    lock = tryLock(file, 'exclusive')
  } catch (error) {
    throw lockFailed(file, error)
  }
  if (lock) return lock
  throw new NetimageError('in-use', `another running server uses the state in ${state}`, {
    details: { file: state },
    hint: 'Stop the other server, or name another directory with --state.',
  })
}

function lockFailed(file: string, error: unknown): Error {
  const hint = 'Make room on that disk, or name another directory with --state.'
  return fileSystemError(`could not lock ${file}`, error, { hint })
}

/** Whether a server runs with this state now. @returns undefined if this is not known */
export function isServed(state: string): boolean | undefined {
  const file = join(state, serverLock)
  if (!existsSync('/proc/locks')) return undefined
  return lockersOf(file).length > 0
}

const shardsFile = 'shards.lock'

/** Shows servers that start later that this process still serves machines, until it ends. */
export function lockShard(state: string): Lock {
  const file = join(state, shardsFile)
  const lock = tryLock(file, 'shared')
  if (lock) return lock
  throw new NetimageError('in-use', `another server that starts now holds ${file}`, {
    details: { file },
    hint: 'Start the server again.',
  })
}

/**
 * If a server is killed while one of its processes is busy, this process may only end once it is done: see
 * front/end-together.ts. Until then it has layers open and writes to the site, so that a new server waits
 * for its end.
 *
 * @param state locked by this server
 * @throws `NetimageError` `in-use`, `not-allowed`, `file-system`, `disk-full`; the reason of the signal
 */
export async function waitForOldShards(
  state: string,
  signal: AbortSignal | undefined,
  waitMs = 10_000,
): Promise<void> {
  const file = join(state, shardsFile)
  try {
    const lock = await waitForLock(file, 'exclusive', waitMs, signal)
    if (lock) {
      lock.release()
      return
    }
  } catch (error) {
    throw lockFailed(file, error)
  }
  const pids = lockersOf(file).join(' ')
  throw new NetimageError(
    'in-use',
    `processes of a server that was killed still use the state in ${state}${pids && `: ${pids}`}`,
    {
      details: { file: state },
      hint: `Wait until they have ended, or end them: ${pids ? `kill -KILL ${pids}` : `fuser -k ${file}`}`,
    },
  )
}

/** Reads proc_locks(5). @returns the processes that have locked the file; on other systems than Linux none */
function lockersOf(file: string): number[] {
  try {
    const { ino } = statSync(file)
    const locks = readFileSync('/proc/locks', 'latin1').matchAll(
      /^\d+: POSIX .* (\d+) [\da-f]+:[\da-f]+:(\d+) /gm,
    )
    const pids = [...locks]
      .filter(([, , inode]) => Number(inode) === ino)
      .map(([, pid]) => Number(pid))
    return [...new Set(pids)]
  } catch {
    return []
  }
}

function sharedDirectory(state: string): NetimageError {
  const problem = `could not keep the state in ${state}: other users can open this directory, and it is not only for the state of a server`
  const hint = `Name another directory with --state, such as ${join(state, 'netimage')}. If ${state} is only for the server, close it to other users first: chmod 700 ${state}`
  return new NetimageError('bad-option', problem, { hint })
}

const keyBytes = 32

/**
 * The secret of file handles. It is made once and never changes, so that machines keep their root
 * if the server restarts.
 */
export function handleKey(state: string): Buffer {
  const file = join(state, keyFile)
  try {
    return readKey(file) ?? makeKey(state, file)
  } catch (error) {
    const hint = 'Name a directory with --state that you can write to and that has room.'
    throw fileSystemError(`could not read or make ${file}`, error, { hint })
  }
}

function readKey(file: string): Buffer | undefined {
  let key: Buffer
  try {
    key = readFileSync(file)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
  if (key.length === keyBytes) return key
  throw new NetimageError('bad-state', `${file} has ${key.length} bytes instead of ${keyBytes}`, {
    details: { file, field: 'size', expected: keyBytes, actual: key.length },
    hint: 'Remove the file, and a new one is made. Running machines must then boot again.',
  })
}

/** Makes the key in one step. Another server that starts at the same time gets the same key. */
function makeKey(state: string, file: string): Buffer {
  const scratch = join(state, `${keyFile}-${randomBytes(6).toString('hex')}`)
  writeFileSync(scratch, randomBytes(keyBytes), { flag: 'wx', mode: 0o600, flush: true })
  try {
    linkSync(scratch, file)
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
  } finally {
    rmSync(scratch)
  }
  return readKey(file) ?? makeKey(state, file)
}
