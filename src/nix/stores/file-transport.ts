/** A binary cache in a directory of this machine. */
import { access, open } from 'node:fs/promises'
import { resolve, sep } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../../errors.ts'
import { maxNarInfoBytes } from '../narinfo.ts'
import type { Transport } from './binary-cache.ts'

export function fileTransport(directory: string): Transport {
  const url = `file://${directory}`

  function pathOf(name: string): string {
    const path = resolve(directory, name)
    if (path.startsWith(directory.endsWith(sep) ? directory : directory + sep)) return path
    throw new NetimageError('bad-narinfo', `the cache ${url} names a file outside itself: ${name}`)
  }

  return {
    url,
    async text(name) {
      const path = pathOf(name)
      try {
        await using file = await open(path)
        const buffer = Buffer.alloc(Math.min((await file.stat()).size, maxNarInfoBytes))
        const { bytesRead } = await file.read(buffer)
        return buffer.toString('utf8', 0, bytesRead)
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return undefined
        throw notReadable(path, error)
      }
    },
    async file(name) {
      const path = pathOf(name)
      try {
        await access(path)
        return { file: path, temporary: false }
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return undefined
        throw notReadable(path, error)
      }
    },
    close: () => Promise.resolve(),
  }
}

function notReadable(path: string, error: unknown): Error {
  if (errnoOf(error) !== 'EACCES') return fileSystemError(`could not read ${path}`, error)
  return new NetimageError('not-allowed', `${path} may not be read by this user`, { cause: error })
}
