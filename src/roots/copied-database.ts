/**
 * Reads the database of a layer while its machine may run. The server keeps it locked then, so a copy is
 * read. The log is copied after the database: it has all that was moved from it into the database
 * meanwhile, unless it has begun anew, which its salts tell.
 */
import { closeSync, copyFileSync, mkdtempSync, openSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { errnoOf, NetimageError } from '../errors.ts'
import { removeTree } from '../remove-tree.ts'
import { databaseFile, openLayerDatabase, type LayerDatabase } from './database.ts'
import { readLogHeader } from './log-file.ts'

const tries = 10

/**
 * @param directory of the contents of the layer
 * @throws `NetimageError` `bad-state`, also for a layer of another format; `in-use` if the machine writes all
 *   the time; system errors
 */
export function readCopy<T>(directory: string, read: (database: LayerDatabase) => T): T {
  const scratch = mkdtempSync(join(tmpdir(), 'netimage-layer-'))
  try {
    copyDatabase(databaseFile(directory), databaseFile(scratch))
    const database = openLayerDatabase(scratch)
    try {
      return read(database)
    } finally {
      database.close()
    }
  } finally {
    removeTree(scratch)
  }
}

function copyDatabase(from: string, to: string): void {
  for (let left = tries; left > 0; left--) {
    const before = saltsOf(from)
    copyFileSync(from, to)
    if (before === undefined) removeTree(`${to}-wal`)
    else copyFileSync(`${from}-wal`, `${to}-wal`)
    if (before === saltsOf(from) && before === saltsOf(to)) return
  }
  throw new NetimageError('in-use', `the layer ${from} changes while it is copied`, {
    details: { file: from },
    hint: 'The machine writes very much just now. Run this again later.',
  })
}

/** @returns undefined if there is no log, or an empty one */
function saltsOf(file: string): string | undefined {
  let log: number
  try {
    log = openSync(`${file}-wal`, 'r')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
  try {
    return readLogHeader(log)?.salts.toString('hex')
  } finally {
    closeSync(log)
  }
}
