/** What the databases of the state directory have in common. Other processes read them meanwhile. */
import { existsSync, statfsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite'
import { pathToFileURL } from 'node:url'

import { databaseFull, isDatabaseBusy } from './database-error.ts'
import { NetimageError } from './errors.ts'

/** How long to wait while another process writes. Milliseconds. */
export const writeTimeout = 5000

/**
 * To read a database with a write-ahead log, SQLite must write beside it. Without that permission,
 * the database can only be read `immutable`, if the server has ended and left no log.
 * https://www.sqlite.org/wal.html#read_only_databases
 */
export function openToRead(file: string): DatabaseSync {
  try {
    return checked(new DatabaseSync(file, { readOnly: true, timeout: writeTimeout }))
  } catch (error) {
    // A try that failed may have made an empty log.
    if ((statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0) throw error
    return checked(openUnchanging(file))
  }
}

/**
 * Opens a file that has no log. SQLite makes no lock, log or other file beside it, and does not write
 * to it.
 *
 * @throws an error of SQLite
 */
export function openUnchanging(file: string): DatabaseSync {
  const url = pathToFileURL(file)
  url.searchParams.set('immutable', '1')
  return new DatabaseSync(url, { readOnly: true })
}

/** How long to wait while another process reads as `readWithoutRoom` does. Milliseconds. */
const exclusiveTimeout = 500

/**
 * Reads a database on a disk that is full. SQLite needs room for the index of the log even to read,
 * unless another process has the database open, so that there is an index, or in the exclusive mode.
 * https://www.sqlite.org/wal.html#use_of_wal_without_shared_memory
 *
 * @returns undefined if there is no database
 */
export function readWithoutRoom<T>(
  file: string,
  read: (database: DatabaseSync) => T,
): T | undefined {
  if (!existsSync(file)) return undefined
  using unfinished = new DisposableStack()
  const database = unfinished.adopt(openWithoutRoom(file), (opened) => opened.close())
  const { format } = formatIn(database)
  // The disk was full when the database was made.
  return format === 0 ? undefined : read(database)
}

function openWithoutRoom(file: string): DatabaseSync {
  const database = new DatabaseSync(file, { timeout: exclusiveTimeout })
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE')
    formatIn(database)
    return database
  } catch (error) {
    database.close()
    if (!isDatabaseBusy(error)) throw error
    return openToRead(file)
  }
}

function formatIn(database: DatabaseSync): Record<string, SQLOutputValue> {
  return database.prepare('SELECT user_version AS format FROM pragma_user_version').get() ?? {}
}

function checked(database: DatabaseSync): DatabaseSync {
  try {
    database.exec('SELECT count(*) FROM sqlite_schema')
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

/** SQLite gives the index room in pages of this size. */
const indexPage = 4096
/** More than the index of a short log takes. For a long log, it takes less than this part of the log. */
const [indexBytes, partOfLog] = [65_536, 64]

/**
 * To be called before a database is opened to write to it. SQLite maps the index of the log into memory,
 * and writes one byte to each of its pages before. If the blocks of the disk are smaller than a page, the
 * rest of the page has no room then, and on a full disk the kernel ends the process (SIGBUS).
 * https://www.sqlite.org/walformat.html#the_wal_index_file_format
 *
 * @throws an error as that of SQLite for a full disk
 */
export function needRoomForIndex(file: string): void {
  if (!existsSync(file)) return
  const { bsize, bavail } = statfsSync(dirname(file))
  if (bsize >= indexPage) return
  const log = statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0
  if (bavail * bsize < indexBytes + log / partOfLog) {
    throw databaseFull('the disk has no room for the index of the log')
  }
}

/**
 * To be called before anything is written: a file of a newer netimage must stay as it is.
 *
 * @param format the format that this netimage knows, which it keeps as `user_version`
 * @throws `NetimageError` `bad-state`
 */
export function refuseNewer(file: string, format: number, hint: string): void {
  if (!existsSync(file)) return
  const database = openToRead(file)
  const found = database.prepare('PRAGMA user_version').get()?.['user_version']
  database.close()
  if (typeof found !== 'number' || found <= format) return
  throw new NetimageError(
    'bad-state',
    `${file} was written by a newer netimage: its format is ${found}, and this netimage knows ${format}`,
    { details: { file, expected: format, actual: found }, hint },
  )
}
