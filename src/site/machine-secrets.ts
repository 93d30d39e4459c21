/** The secrets that a person put into the state directory for one machine: files in a directory of its own. */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  type Stats,
} from 'node:fs'

import { dirname, join } from 'node:path'

import { errnoOf, messageOf, NetimageError } from '../errors.ts'
import { openRegularFile, pathOfDescriptor } from '../open-safely.ts'
import { visible } from '../printable.ts'
import { plural } from '../progress.ts'
import { isPassing } from '../roots/failure.ts'
import { folderOf } from '../roots/stored-layer.ts'

export interface Secret {
  name: Buffer
  bytes: Buffer
}

const mostBytes = 2 ** 20
const mostFiles = 1000
/** So many refused files are told by their names. */
const mostTold = 5

/** Why a file or a directory is not used. */
class Refusal extends Error {}

/**
 * Gives the files in the order of their names. Follows no links.
 *
 * @param onProblem is told once of all files that are refused; the others are given
 * @throws a system error only if the server lacks descriptors or memory at the moment
 */
export function* readSecrets(
  { state, machine }: { state: string; machine: string },
  onProblem: (error: NetimageError) => void,
): Generator<Secret> {
  const directory = join(state, 'secrets', folderOf(machine))
  const refused: string[] = []
  try {
    const opened = orRefusal(() => openDirectory(directory))
    if (opened === undefined) return
    try {
      const place = pathOfDescriptor(opened) ?? directory
      const names = readdirSync(place, { encoding: 'buffer' }).toSorted((one, other) =>
        one.compare(other),
      )
      for (const name of names.slice(0, mostFiles)) {
        try {
          const bytes = orRefusal(() => readSecret(Buffer.concat([Buffer.from(`${place}/`), name])))
          if (bytes) yield { name, bytes }
        } catch (error) {
          if (!(error instanceof Refusal)) throw error
          refused.push(`${visible(name.toString())}: ${error.message}`)
        }
      }
      const more = names.length - mostFiles
      if (more > 0) refused.push(`the last ${more}: there are more than ${mostFiles} files`)
    } finally {
      closeSync(opened)
    }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    refused.push(`${directory}: ${error.message}`)
  }
  if (refused.length > 0) onProblem(refusedSecrets(directory, refused))
}

/** @returns undefined if there is nothing with this name any more */
function orRefusal<T>(action: () => T): T | undefined {
  try {
    return action()
  } catch (error) {
    const errno = errnoOf(error)
    if (error instanceof Refusal || isPassing(error)) throw error
    if (errno === 'ENOENT') return undefined
    if (errno === 'ELOOP') throw new Refusal('it is a symbolic link')
    if (errno === 'ENOTDIR') throw new Refusal('it is no directory, or a link')
    if (errno === 'EACCES') throw new Refusal('the server may not read it')
    throw new Refusal(errno === undefined || errno === 'ENXIO' ? 'it is no file' : messageOf(error))
  }
}

/** Also the directory above it is no link. */
function openDirectory(path: string): number {
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants
  if (!lstatSync(dirname(path)).isDirectory()) throw new Refusal('the one above it is no directory')
  const opened = openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
  try {
    mustBeOwn(fstatSync(opened), 0o022)
    return opened
  } catch (error) {
    closeSync(opened)
    throw error
  }
}

function readSecret(path: Buffer): Buffer {
  const file = openRegularFile(path)
  try {
    const stat = fstatSync(file)
    mustBeOwn(stat, 0o077)
    if (stat.nlink > 1) throw new Refusal('it has several names (hard links)')
    const bytes = stat.size > mostBytes ? undefined : readFileSync(file)
    if (bytes && bytes.length <= mostBytes) return bytes
    throw new Refusal(`it has more than ${mostBytes} bytes`)
  } finally {
    closeSync(file)
  }
}

/** @param forOthers the permissions that the group and others must not have */
function mustBeOwn({ uid, mode }: Stats, forOthers: number): void {
  if (uid !== 0 && uid !== process.geteuid?.()) {
    throw new Refusal(`it belongs to another user (uid ${uid}) than root or the server's user`)
  }
  if (mode & forOthers) {
    const can = forOthers & 0o044 ? 'read or change it' : 'change it'
    throw new Refusal(`other users may ${can} (mode ${(mode & 0o7777).toString(8)})`)
  }
}

function refusedSecrets(directory: string, refused: readonly string[]): NetimageError {
  const told = refused.slice(0, mostTold).join('; ')
  const more = refused.length - mostTold
  const rest = more > 0 ? `; and ${plural(more, 'more file')}` : ''
  return new NetimageError('bad-state', `it boots without these secrets: ${told}${rest}`, {
    details: { file: directory },
    hint: `The files in ${directory} must be regular files of the server's user that nobody else may read, at most ${mostFiles} with ${mostBytes} bytes each: install -m 0400 -o USER FILE ${directory}. Mend this, and restart the machine.`,
  })
}
