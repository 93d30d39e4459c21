/**
 * The database of a site: the life of each machine, and its name. The server and the commands of
 * people write to it at the same time, each in short transactions.
 */
import { closeSync, existsSync, fdatasync, lstatSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'

import {
  databaseError,
  isDatabaseBusy,
  isDatabaseError,
  isDatabaseFull,
  withQuota,
} from '../database-error.ts'
import { explained, fileSystemError, isDiskFull, NetimageError } from '../errors.ts'
import { makeDirectory } from '../make-directory.ts'
import { giveToOwnerOf } from '../roots/owner.ts'
import {
  needRoomForIndex,
  openToRead,
  readWithoutRoom,
  refuseNewer,
  writeTimeout,
} from '../state-database.ts'
import { syncDirectory } from '../sync-directory.ts'
import { copyToMemory } from './copy-to-memory.ts'
import { readLog, type FoundInLog, type LogQuery } from './log/rows.ts'
import { addMissingTables, schema } from './schema.ts'
import { readerOf, writerOf, type SiteReader, type SiteWriter } from './statements.ts'
import { inTransaction, tryWhileBusy } from './write-in-turn.ts'

const format = 1

const hint =
  'Put back a copy of the file from a backup. If you move the file away, all machines begin again with the images of the server as their first generation; they keep their files.'

const fullHint =
  'Make room on that disk, or raise the quota of the server’s user. Until then, nothing of the site can be changed: machines boot only good generations, and their attempts are not recorded.'

export interface SiteDatabase {
  /**
   * All changes of the action are made, or none.
   *
   * @param waitMs how long this may block while another process writes. Default: the timeout
   * @throws `NetimageError`; `in-use` if another process still writes: then the action was not called
   */
  change<T>(action: (writer: SiteWriter) => T, waitMs?: number): T
  /** Resolves once everything that was changed before is on the disk. @throws `NetimageError` */
  durable(): Promise<void>
  read: SiteReader
  close(): void
}

const fdatasyncAsync = promisify(fdatasync)

export function siteFile(state: string): string {
  return join(state, 'site.sqlite')
}

/**
 * If the disk is full, what the database has can be read, and changes fail with `disk-full` until there
 * is room.
 *
 * @param timeout how long a change blocks while another process writes, by default. Milliseconds.
 * @throws `NetimageError` `bad-state`, also for the file of a newer netimage (left unchanged);
 *   `disk-full` if there is no database yet
 */
export function openSiteDatabase(state: string, timeout = writeTimeout): SiteDatabase {
  const file = siteFile(state)
  let connection: Connection | undefined
  /** What was in the database while the disk was full. */
  let copy: SiteReader | undefined

  function connect(): Connection {
    connection ??= explain(file, 'open the site', () => openConnection(state, file, timeout))
    copy = undefined
    return connection
  }

  try {
    connect()
  } catch (error) {
    if (!(error instanceof NetimageError && error.code === 'disk-full')) throw error
    const rows = explain(file, 'read the site', () =>
      readWithoutRoom(file, (database) => {
        const found = copyToMemory(database, ['log'])
        found.exec(schema)
        return found
      }),
    )
    copy = rows && readerOf(rows, file)
    if (!copy) {
      const noRoom = 'Make room on that disk, or name another directory with --state.'
      throw explained(error, error.message, {}, noRoom)
    }
  }
  let sync: Promise<void> | undefined
  return {
    read: explainedReader(file, () => copy ?? connect().read),
    change(action, waitMs = timeout) {
      const { database, write } = connect()
      return explain(file, 'change the site', () =>
        inTransaction(database, { timeout, waitMs }, () => action(write)),
      )
    },
    durable() {
      // One sync serves all that wait at the end of this turn of the event loop.
      sync ??= turn().then(() => {
        sync = undefined
        return fdatasyncAsync(connect().log).catch((error: unknown) => {
          throw fileSystemError(`could not write ${file} to the disk`, error, { hint: fullHint })
        })
      })
      return sync
    },
    close: () => connection?.close(),
  }
}

interface Connection {
  database: DatabaseSync
  /** The descriptor of its log, which exists as long as the database is open. */
  log: number
  read: SiteReader
  write: SiteWriter
  close(): void
}

function openConnection(state: string, file: string, timeout: number): Connection {
  using unfinished = new DisposableStack()
  needRoomForIndex(file)
  refuseNewer(file, format, hint)
  makeDirectory(state, 0o700)
  const isNew = !existsSync(file)
  // All processes of a server open the site at the same time, and nothing is served yet.
  const database = new DatabaseSync(file, { timeout: writeTimeout })
  unfinished.defer(() => database.close())
  // Root may open the site of a server that runs as another user.
  if (isNew) giveToOwnerOf(state, file)
  // Changes reach the disk by `durable`. After a loss of power, SQLite finds each transaction
  // whose log is on the disk.
  // SQLite itself does not wait for other processes when it changes the mode of a file.
  tryWhileBusy(writeTimeout, () => database.exec('PRAGMA journal_mode = WAL'))
  database.exec(`
    PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE; ${schema}; PRAGMA user_version = ${format}; COMMIT;
    PRAGMA busy_timeout = ${timeout};
  `)
  const log = openSync(`${file}-wal`, 'r')
  unfinished.defer(() => closeSync(log))
  syncDirectory(state)
  const [read, write] = [readerOf(database, file), writerOf(database, file)]
  const opened = unfinished.move()
  return { database, log, read, write, close: () => opened.dispose() }
}

export interface OpenToRead extends SiteReader {
  log: (query: LogQuery) => FoundInLog
  close: () => void
}

/** @returns undefined if there is no site yet. @throws `NetimageError` */
export function openSiteToRead(state: string): OpenToRead | undefined {
  const file = siteFile(state)
  return explain(file, 'open the site', () => {
    if (lstatSync(file, { throwIfNoEntry: false }) === undefined) return undefined
    refuseNewer(file, format, hint)
    const database = openToRead(file)
    // All that is read is of one moment.
    database.exec('BEGIN')
    // The process that makes it has only begun.
    if (!hasMachines(database)) {
      database.close()
      return undefined
    }
    addMissingTables(database)
    const reader = readerOf(database, file)
    return {
      ...explainedReader(file, () => reader),
      log: (query) => explain(file, 'read the log', () => readLog(database, query)),
      close: () => database.close(),
    }
  })
}

function hasMachines(database: DatabaseSync): boolean {
  const table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'machines'"
  return database.prepare(table).get() !== undefined
}

/** @param now gives what is to be read from at the time of a call */
function explainedReader(file: string, now: () => SiteReader): SiteReader {
  const read = <T>(action: (reader: SiteReader) => T) =>
    explain(file, 'read the site', () => action(now()))
  return {
    lives: (onBroken, wanted) => read((reader) => reader.lives(onBroken, wanted)),
    lifeOf: (machine) => read((reader) => reader.lifeOf(machine)),
    lifeFingerprint: (machine) => read((reader) => reader.lifeFingerprint(machine)),
    lifeFingerprints: () => read((reader) => reader.lifeFingerprints()),
    names: () => read((reader) => reader.names()),
    declarations: (onBroken) => read((reader) => reader.declarations(onBroken)),
    hostKeyOf: (machine) => read((reader) => reader.hostKeyOf(machine)),
    uptime: () => read((reader) => reader.uptime()),
    rollouts: () => read((reader) => reader.rollouts()),
    restartRequestOf: (machine) => read((reader) => reader.restartRequestOf(machine)),
    rolloutFingerprint: () => read((reader) => reader.rolloutFingerprint()),
  }
}

function explain<T>(file: string, doing: string, action: () => T): T {
  try {
    return action()
  } catch (thrown) {
    const error = withQuota(thrown, file)
    if (error instanceof NetimageError) throw error
    const problem = `could not ${doing} in ${file}`
    if (isDatabaseBusy(error)) {
      throw new NetimageError('in-use', `${problem}: another process is writing to it`, {
        cause: error,
        details: { file },
        hint: 'Try again. If this does not help, look for a netimage that was stopped (Ctrl-Z).',
      })
    }
    if (isDatabaseFull(error)) {
      throw new NetimageError('disk-full', `${problem}: the disk is full`, {
        ...{ cause: error, details: { file }, hint: fullHint },
      })
    }
    if (isDatabaseError(error)) {
      throw databaseError(problem, error, { details: { file }, hint })
    }
    throw fileSystemError(problem, error, {
      details: { file },
      ...(isDiskFull(error) && { hint: fullHint }),
    })
  }
}
