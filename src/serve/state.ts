/** The state directory: what a server keeps of its machines between its runs. */
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
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
import { homeFor } from '../home.ts'
import { makeDirectory } from '../make-directory.ts'

/** @param named by the person; default: `/var/lib/netimage` for root, else below the home */
export function stateDirectory(
  named: string | undefined,
  env: NodeJS.ProcessEnv = process.env,
): string {
  if (named !== undefined) return resolve(named)
  if (process.geteuid?.() === 0) return '/var/lib/netimage'
  const home = homeFor('XDG_STATE_HOME', env)
  if (home !== undefined) return join(home, 'netimage')
  throw new NetimageError('bad-usage', 'there is no home directory to keep the state in', {
    hint: 'Name a directory with --state, or set HOME or XDG_STATE_HOME.',
  })
}

const forOthers = 0o077
const sticky = 0o1000
const keyFile = 'handle-key'
/** What a server makes there, what people put there for it, and what a disk of its own has. */
const ownNames = /^(?:boot|layers|handle-key.*|(?:boots|leases)\.sqlite.*|lost\+found)$/

/**
 * Makes the directory if there is none, and keeps all other users out of it: they could read what
 * machines wrote and were told, and hold the locks of their layers. A directory that is for other
 * things as well, such as /tmp, is not closed to those who need it.
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

/** Another program of netimage may end at the same time, and take files of its own away. */
function closeFile(file: string): void {
  const stat = lstatSync(file, { throwIfNoEntry: false })
  if (stat?.isFile() && stat.mode & forOthers) chmodSync(file, stat.mode & 0o700)
}

function sharedDirectory(state: string): NetimageError {
  const problem = `${state} is no directory for the state of a server alone, from which other users are kept out`
  const hint = `Name another one with --state, such as ${join(state, 'netimage')}. If this one is for nothing else, close it to others first: chmod 700 ${state}`
  return new NetimageError('bad-option', problem, { hint })
}

const keyBytes = 32

/**
 * The secret that file handles are made with: made once, and the same ever after, so that machines
 * keep their root over a restart of the server.
 */
export function handleKey(state: string): Buffer {
  const file = join(state, keyFile)
  try {
    return readKey(file) ?? makeKey(state, file)
  } catch (error) {
    const hint = 'Name a directory with --state that can be written to and has room.'
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
  throw new NetimageError('bad-state', `${file} has ${key.length} bytes in place of ${keyBytes}`, {
    hint: 'Remove it to have a new one: machines that run must then boot again.',
  })
}

/** Whole or not there: another server that starts at the same time gets the same one. */
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
