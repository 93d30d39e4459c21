/**
 * The database of a site: the life of each machine, and its name. The server and the commands of
 * people write to it at the same time, each in short transactions.
 */
import { closeSync, existsSync, fdatasync, lchownSync, lstatSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { promisify } from 'node:util'

import { databaseError, isDatabaseBusy } from '../database-error.ts'
import { fileSystemError, NetimageError } from '../errors.ts'
import { makeDirectory } from '../make-directory.ts'
import { openToRead, refuseNewer, writeTimeout } from '../state-database.ts'
import { syncDirectory } from '../sync-directory.ts'
import type { Lives } from './life/begin.ts'
import { newLife, type Life } from './life/life.ts'
import { BrokenRow, readAttempt, readGeneration, readMachine } from './rows.ts'

const format = 1
const schema = `
  CREATE TABLE IF NOT EXISTS site (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    uptime INTEGER NOT NULL
  ) STRICT;
  INSERT OR IGNORE INTO site VALUES (1, 0);
  CREATE TABLE IF NOT EXISTS machines (
    machine TEXT PRIMARY KEY,
    life TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS machines_sign ON machines (life ->> 'lastSign');
  CREATE INDEX IF NOT EXISTS machines_restart
    ON machines (life ->> '$.restart.uptime', life ->> '$.restart.failed');
  CREATE TABLE IF NOT EXISTS names (
    name TEXT PRIMARY KEY,
    machine TEXT NOT NULL UNIQUE
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS generations (
    machine TEXT NOT NULL,
    number INTEGER NOT NULL,
    generation TEXT NOT NULL,
    PRIMARY KEY (machine, number)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS attempts (
    machine TEXT NOT NULL,
    number INTEGER NOT NULL,
    attempt TEXT NOT NULL,
    PRIMARY KEY (machine, number)
  ) STRICT, WITHOUT ROWID;
`

const hint =
  'Put back a copy of the file from a backup. If you move the file away, all machines begin again with the images of the server as their first generation; they keep their files.'

export interface SiteReader {
  /** All machines that have booted, or for which somebody chose or named something. */
  lives: () => Life[]
  lifeOf: (machine: string) => Life
  /** Names by machine. */
  names: () => ReadonlyMap<string, string>
  uptime: () => number
  close: () => void
}

export interface SiteWriter extends Lives {
  uptime(): number
  setUptime(uptime: number): void
  names(): ReadonlyMap<string, string>
  setName(machine: string, name: string): void
}

export interface SiteDatabase {
  /** All changes of the action are made, or none. @throws `NetimageError` */
  change<T>(action: (writer: SiteWriter) => T): T
  /** Resolves once everything that was changed before is on the disk. @throws `NetimageError` */
  durable(): Promise<void>
  read: Omit<SiteReader, 'close'>
  close(): void
}

const fdatasyncAsync = promisify(fdatasync)

export function siteFile(state: string): string {
  return join(state, 'site.sqlite')
}

/**
 * @param timeout how long a change blocks while another process writes. Milliseconds.
 * @throws `NetimageError` `bad-state`, also for the file of a newer netimage (left unchanged)
 */
export function openSiteDatabase(state: string, timeout = writeTimeout): SiteDatabase {
  const file = siteFile(state)
  return explain(file, 'open the site', () => {
    using unfinished = new DisposableStack()
    refuseNewer(file, format, hint)
    makeDirectory(state, 0o700)
    const isNew = !existsSync(file)
    const database = new DatabaseSync(file, { timeout })
    unfinished.defer(() => database.close())
    if (isNew) giveToOwnerOf(state, file)
    // Changes reach the disk by `durable`. After a loss of power, SQLite finds each transaction
    // whose log is on the disk.
    database.exec(`
      PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
      BEGIN IMMEDIATE; ${schema}; PRAGMA user_version = ${format}; COMMIT;
    `)
    // The log exists as long as the database is open.
    const log = openSync(`${file}-wal`, 'r')
    unfinished.defer(() => closeSync(log))
    syncDirectory(state)
    const read = explained(file, readerOf(database))
    const write = writerOf(database, readerOf(database))
    const opened = unfinished.move()
    let sync: Promise<void> | undefined
    return {
      read,
      change: (action) =>
        explain(file, 'change the site', () => inTransaction(database, () => action(write))),
      durable() {
        // One sync serves all that wait at the end of this turn of the event loop.
        sync ??= new Promise((resolve) => void setImmediate(resolve)).then(() => {
          sync = undefined
          return fdatasyncAsync(log).catch((error: unknown) => {
            throw fileSystemError(`could not write ${file} to the disk`, error)
          })
        })
        return sync
      },
      close: () => opened.dispose(),
    }
  })
}

/** @returns undefined if there is no site yet. @throws `NetimageError` */
export function openSiteToRead(state: string): SiteReader | undefined {
  const file = siteFile(state)
  return explain(file, 'open the site', () => {
    if (lstatSync(file, { throwIfNoEntry: false }) === undefined) return undefined
    refuseNewer(file, format, hint)
    const database = openToRead(file)
    // All that is read is of one moment.
    database.exec('BEGIN')
    return explained(file, readerOf(database))
  })
}

function inTransaction<T>(database: DatabaseSync, action: () => T): T {
  database.exec('BEGIN IMMEDIATE')
  try {
    const result = action()
    database.exec('COMMIT')
    return result
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}

function readerOf(database: DatabaseSync): SiteReader {
  const machines = database.prepare('SELECT life FROM machines ORDER BY machine')
  const machine = database.prepare('SELECT life FROM machines WHERE machine = ?')
  const generations = database.prepare(
    'SELECT generation FROM generations WHERE machine = ? ORDER BY number',
  )
  const attempts = database.prepare(
    'SELECT attempt FROM attempts WHERE machine = ? ORDER BY number',
  )
  const names = database.prepare('SELECT name, machine FROM names')
  const uptime = database.prepare('SELECT uptime FROM site')

  const withLists = (row: Omit<Life, 'generations' | 'attempts'>): Life => ({
    ...row,
    generations: generations.all(row.machine).map((each) => readGeneration(each['generation'])),
    attempts: attempts.all(row.machine).map((each) => readAttempt(each['attempt'])),
  })
  return {
    lives: () => machines.all().map(({ life }) => withLists(readMachine(life))),
    lifeOf(name) {
      const row = machine.get(name)
      return row ? withLists(readMachine(row['life'])) : newLife(name)
    },
    names: () => new Map(names.all().map((row) => [String(row['machine']), String(row['name'])])),
    uptime: () => Number(uptime.get()?.['uptime'] ?? 0),
    close: () => database.close(),
  }
}

function writerOf(database: DatabaseSync, reader: SiteReader): SiteWriter {
  // These conditions are as the indexes have them, so no row is read that is not wanted.
  const ran = database.prepare(
    "SELECT count(*) AS machines FROM machines WHERE life ->> 'lastSign' >= ?",
  )
  const restarted = database.prepare(
    "SELECT count(*) AS machines FROM machines WHERE life ->> '$.restart.uptime' >= ?",
  )
  const failed = database.prepare(
    `SELECT machine FROM machines
     WHERE life ->> '$.restart.uptime' >= ? AND life ->> '$.restart.failed' IS NOT NULL`,
  )
  const setMachine = database.prepare('INSERT OR REPLACE INTO machines VALUES (?, ?)')
  const lists = {
    generations: listWriter(database, 'generations'),
    attempts: listWriter(database, 'attempts'),
  }
  const unname = database.prepare('DELETE FROM names WHERE machine = ?')
  const setName = database.prepare('INSERT INTO names (machine, name) VALUES (?, ?)')
  const setUptime = database.prepare('UPDATE site SET uptime = ?')
  return {
    of: reader.lifeOf,
    keep({ generations, attempts, ...row }) {
      setMachine.run(row.machine, JSON.stringify(row))
      lists.generations(row.machine, generations)
      lists.attempts(row.machine, attempts)
    },
    ranSince: (uptime) => Number(ran.get(uptime)?.['machines']),
    restartedSince: (uptime) => Number(restarted.get(uptime)?.['machines']),
    failedSince: (uptime) => failed.all(uptime).map(({ machine }) => String(machine)),
    uptime: reader.uptime,
    names: reader.names,
    setUptime: (uptime) => void setUptime.run(Math.round(uptime)),
    setName(machine, name) {
      unname.run(machine)
      setName.run(machine, name)
    },
  }
}

/** Writes the rows that have changed, and removes those that are forgotten. */
function listWriter(database: DatabaseSync, table: 'generations' | 'attempts') {
  const column = table.slice(0, -1)
  const set: StatementSync = database.prepare(
    `INSERT INTO ${table} VALUES (?1, ?2, ?3)
     ON CONFLICT DO UPDATE SET ${column} = excluded.${column} WHERE ${column} <> excluded.${column}`,
  )
  const known = database.prepare(`SELECT number FROM ${table} WHERE machine = ?`)
  const forget = database.prepare(`DELETE FROM ${table} WHERE machine = ? AND number = ?`)
  return (machine: string, list: readonly { number: number }[]) => {
    const numbers = new Set(list.map(({ number }) => number))
    for (const row of known.all(machine)) {
      const number = Number(row['number'])
      if (!numbers.has(number)) forget.run(machine, number)
    }
    for (const each of list) set.run(machine, each.number, JSON.stringify(each))
  }
}

/** Root may open the site of a server that runs as another user. */
function giveToOwnerOf(state: string, file: string): void {
  if (process.geteuid?.() !== 0) return
  const { uid, gid } = lstatSync(state)
  lchownSync(file, uid, gid)
}

function explained(file: string, reader: SiteReader): SiteReader {
  const read = <T>(action: () => T) => explain(file, 'read the site', action)
  return {
    lives: () => read(reader.lives),
    lifeOf: (machine) => read(() => reader.lifeOf(machine)),
    names: () => read(reader.names),
    uptime: () => read(reader.uptime),
    close: reader.close,
  }
}

function explain<T>(file: string, doing: string, action: () => T): T {
  try {
    return action()
  } catch (error) {
    if (error instanceof NetimageError) throw error
    const problem = `could not ${doing} in ${file}`
    if (error instanceof BrokenRow) {
      const message = `${problem}: a row is broken: ${error.message}`
      throw new NetimageError('bad-state', message, { cause: error, details: { file }, hint })
    }
    if (isDatabaseBusy(error)) {
      throw new NetimageError('in-use', `${problem}: another process is writing to it`, {
        cause: error,
        details: { file },
        hint: 'Try again. If this does not help, look for a netimage that was stopped (Ctrl-Z).',
      })
    }
    if (error instanceof Error && 'errcode' in error) {
      throw databaseError(problem, error, { details: { file }, hint })
    }
    throw fileSystemError(problem, error, { details: { file } })
  }
}
