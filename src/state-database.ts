/** What the databases of the state directory have in common. Other processes read them meanwhile. */
import { existsSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'

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
    if (existsSync(`${file}-wal`)) throw error
    const url = pathToFileURL(file)
    url.searchParams.set('immutable', '1')
    return checked(new DatabaseSync(url, { readOnly: true }))
  }
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
