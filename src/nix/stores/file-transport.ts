/** A binary cache in a directory of this machine. */
import { accessSync, closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { resolve, sep } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../../errors.ts'
import { maxNarInfoBytes } from '../narinfo.ts'
import type { Transport } from './binary-cache.ts'

export function fileTransport(directory: string): Transport {
  const url = `file://${directory}`

  function pathOf(name: string): string {
    const path = resolve(directory, name)
    if (path.startsWith(directory.endsWith(sep) ? directory : directory + sep)) return path
    throw new NetimageError(
      'bad-narinfo',
      `the cache ${url} names a file outside of its directory: ${name}`,
      {
        details: { store: url, field: 'URL', actual: name },
      },
    )
  }

  return {
    url,
    // Synchronous, because for small files promises take several times as long as reading.
    text: (name) => attempt(pathOf(name), readText),
    file: (name) =>
      attempt(pathOf(name), (path) => {
        accessSync(path)
        return { file: path, temporary: false }
      }),
    close: () => Promise.resolve(),
  }
}

function attempt<T>(path: string, read: (path: string) => T): Promise<T | undefined> {
  try {
    return Promise.resolve(read(path))
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return Promise.resolve(undefined)
    return Promise.reject(notReadable(path, error))
  }
}

function readText(path: string): string {
  const fd = openSync(path, 'r')
  try {
    const buffer = Buffer.alloc(Math.min(fstatSync(fd).size, maxNarInfoBytes))
    return buffer.toString('utf8', 0, readSync(fd, buffer))
  } finally {
    closeSync(fd)
  }
}

function notReadable(path: string, error: unknown): Error {
  if (errnoOf(error) !== 'EACCES') return fileSystemError(`could not read ${path}`, error)
  return new NetimageError('not-allowed', `could not read ${path}: this user may not read it`, {
    cause: error,
    details: { file: path },
  })
}
