/**
 * The database of what the server learnt from its events: boots, and facts about machines. It can be
 * lost without harm to machines: they keep their roots.
 */
import { mkdirSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

import { errnoOf, NetimageError } from '../errors.ts'
import { databaseError, isDatabaseBroken } from '../database-error.ts'
import { needRoomForIndex, openToRead, refuseNewer, writeTimeout } from '../state-database.ts'

/** The format that is written. Files from before formats had numbers have 0. */
const format = 1

const schema = `
  CREATE TABLE IF NOT EXISTS boots (
    id INTEGER PRIMARY KEY,
    machine TEXT NOT NULL,
    started INTEGER NOT NULL,
    boot TEXT NOT NULL,
    served INTEGER NOT NULL DEFAULT 1,
    UNIQUE (machine, started)
  ) STRICT;
  CREATE TABLE IF NOT EXISTS events (
    boot INTEGER NOT NULL REFERENCES boots ON DELETE CASCADE,
    at INTEGER NOT NULL,
    event TEXT NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS events_boot ON events (boot);
  CREATE TABLE IF NOT EXISTS facts (
    kind TEXT NOT NULL,
    about TEXT NOT NULL,
    fact TEXT NOT NULL,
    PRIMARY KEY (kind, about)
  ) STRICT;
`
const newerHint =
  'Use the newer netimage. Or move the file away to begin a new record. Only past boots and what was learnt of machines are lost.'
const addServed = 'ALTER TABLE boots ADD COLUMN served INTEGER NOT NULL DEFAULT 1'
const indexServed = 'CREATE INDEX IF NOT EXISTS boots_served ON boots (served)'

export function recordFile(state: string): string {
  return join(state, 'boots.sqlite')
}

/**
 * Opens the database to write to it. A broken file is moved aside, so that the server starts.
 *
 * @param use reads all that the server needs at its start, so that broken parts are found now
 * @param onError called if the file was broken
 * @throws `NetimageError` `bad-state` for a file of a newer netimage, or codes of a failing disk
 */
export function useBootDatabase<T>(
  state: string,
  onError: (error: NetimageError) => void,
  use: (database: DatabaseSync) => T,
): T {
  const file = recordFile(state)
  const attempt = () => {
    const database = openDatabase(file, false)
    try {
      return use(database)
    } catch (error) {
      database.close()
      throw toError(file, error)
    }
  }
  try {
    return attempt()
  } catch (error) {
    if (!(error instanceof NetimageError) || !isDatabaseBroken(error.cause)) throw error
    const aside = moveAside(file)
    onError(
      new NetimageError(
        'bad-state',
        `${error.message}: moved it to ${aside}, and began a new one`,
        {
          cause: error,
          details: { file },
          hint: 'Only past boots and what was learnt of machines are lost. Check the disk. You can delete the broken file.',
        },
      ),
    )
    return attempt()
  }
}

/** The log goes first: SQLite would take the log for one of the new file. */
function moveAside(file: string): string {
  const aside = `${file}.broken`
  for (const ending of ['-wal', '-shm', '']) {
    try {
      renameSync(`${file}${ending}`, `${aside}${ending}`)
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
    }
  }
  return aside
}

/** Opens the database to read it. @throws `NetimageError` */
export function openBootsToRead(state: string): DatabaseSync {
  return openDatabase(recordFile(state), true)
}

function openDatabase(file: string, readOnly: boolean): DatabaseSync {
  try {
    if (!readOnly) needRoomForIndex(file)
    refuseNewer(file, format, newerHint)
    if (readOnly) return openToRead(file)
    mkdirSync(dirname(file), { recursive: true })
    return openToWrite(file)
  } catch (error) {
    if (error instanceof NetimageError) throw error
    throw toError(file, error)
  }
}

function openToWrite(file: string): DatabaseSync {
  const database = new DatabaseSync(file, { timeout: writeTimeout })
  try {
    database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; ${schema}`)
    if (!hasServed(database)) database.exec(addServed)
    database.exec(`${indexServed}; PRAGMA user_version = ${format}`)
    return database
  } catch (error) {
    // An open database would delete the log of the file that replaces it.
    database.close()
    throw error
  }
}

function toError(file: string, error: unknown): NetimageError {
  return databaseError(`could not open the boots in ${file}`, error, {
    details: { file },
    hint: 'Move the file away to begin a new record. Only past boots and what was learnt of machines are lost.',
  })
}

function hasServed(database: DatabaseSync): boolean {
  return database
    .prepare('PRAGMA table_info(boots)')
    .all()
    .some((column) => column['name'] === 'served')
}
