/** Moves the files that commands made into a tree of the image. */
import { chmodSync, lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync } from 'node:fs'

import { joinBytes } from '../byte-paths.ts'
import { fileSystemError, NetimageError } from '../errors.ts'
import { removeTree } from '../remove-tree.ts'

/**
 * Moves everything in `from` into `to`. Merges directories that both have, and replaces files that
 * both have.
 *
 * @param refuse returns why a relative path may not be made or replaced, or undefined
 */
export function mergeTree(
  from: string,
  to: string,
  refuse: (path: string) => string | undefined,
): void {
  function merge(source: Buffer, target: Buffer, prefix: string): void {
    const { mode } = lstatSync(target)
    chmodSync(source, 0o700)
    chmodSync(target, mode | 0o700)
    for (const name of readdirSync(source, { encoding: 'buffer' })) {
      const [child, place] = [joinBytes(source, name), joinBytes(target, name)]
      const path = prefix + name.toString()
      const existing = lstatSync(place, { throwIfNoEntry: false })
      const both = existing?.isDirectory() && lstatSync(child).isDirectory()
      const why = both ? undefined : refuse(path)
      if (why !== undefined) {
        throw new NetimageError('command-failed', why, { details: { file: path } })
      }
      if (both) merge(child, place, `${path}/`)
      else {
        if (existing) removeTree(place)
        move(child, place)
      }
    }
    rmdirSync(source)
    chmodSync(target, mode)
  }

  try {
    mkdirSync(to, { recursive: true })
    merge(Buffer.from(from), Buffer.from(to), '')
  } catch (error) {
    throw fileSystemError(`could not move ${from} into the image`, error)
  }
}

/** Only root can move a read-only directory, as in a store, so it is made writable for the move. */
function move(from: Buffer, to: Buffer): void {
  const stat = lstatSync(from)
  if (!stat.isDirectory()) return renameSync(from, to)
  chmodSync(from, stat.mode | 0o700)
  renameSync(from, to)
  chmodSync(to, stat.mode)
}
