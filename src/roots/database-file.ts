/** Opens the files of layers' databases, each in the format that it has. */
import { existsSync } from 'node:fs'
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite'

import { databaseError, isDatabaseFull, withQuota } from '../database-error.ts'
import { NetimageError } from '../errors.ts'
import { openUnchanging } from '../state-database.ts'
import { newerFormat, writer } from './format.ts'

/**
 * Also kept as `user_version`, which is 0 in some layers of format 1. Format 2 lacked some tables,
 * which are added when the layer is opened.
 */
export const format = 3
/** Layers of this format are migrated: see migrate.ts. */
export const olderFormat = 1

/** The layer has the format of an older netimage, and must be migrated before it is used. */
export class OlderFormat extends NetimageError {}

const hint =
  'Use the netimage that made the layer. Or restore a snapshot of the layer, or reset the layer.'

/**
 * @param schema made if the file is new
 * @throws `NetimageError` `bad-state`, also for the layer of a newer netimage (left unchanged), and
 *   `OlderFormat`
 */
export function openDatabaseFile(file: string, schema: string): DatabaseSync {
  const database = openAny(file)
  try {
    const found = formatOf(database)
    if (found === olderFormat) throw older(file)
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    // In one transaction, which takes less room: the disk may be almost full.
    database.exec(`
      BEGIN IMMEDIATE; ${schema};
      INSERT OR IGNORE INTO meta VALUES ('format', ${format});
      UPDATE meta SET value = ${format} WHERE name = 'format' AND value = ${format - 1};
      COMMIT;
    `)
    signFile(database)
    const now = formatOf(database)
    if (now !== format) throw notALayer(file, `its format is ${String(now)}, not ${format}`)
    return database
  } catch (error) {
    database.close()
    throw unlessKnown(file, error)
  }
}

/** Opens the database of a layer that is to be migrated. @throws `NetimageError` `bad-state` */
export function openOlderFile(file: string): DatabaseSync {
  const database = openAny(file)
  try {
    const found = formatOf(database)
    if (found === olderFormat) return database
    throw notALayer(file, `its format is ${String(found)}, not ${olderFormat}`)
  } catch (error) {
    database.close()
    throw unlessKnown(file, error)
  }
}

/**
 * Reads the database of contents that nobody has open, with what is in its log.
 *
 * @throws `NetimageError` `bad-state`
 */
export function readDatabaseFile<T>(file: string, read: (database: DatabaseSync) => T): T {
  const database = openAny(file)
  try {
    return read(database)
  } catch (error) {
    throw unlessKnown(file, error)
  } finally {
    database.close()
  }
}

/** Moves the log into the database, whatever its format. @throws `NetimageError` `bad-state` */
export function emptyLogOf(file: string): void {
  const database = openAny(file)
  try {
    database.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  } catch (error) {
    throw unlessKnown(file, error)
  } finally {
    database.close()
  }
}

/** @throws `NetimageError` `bad-state` */
function openAny(file: string): DatabaseSync {
  using unfinished = new DisposableStack()
  try {
    refuseNewerFile(file)
    // The caller holds the layer's lock, so no other process can hold a lock of the database.
    const database = new DatabaseSync(file, { timeout: 0 })
    unfinished.defer(() => database.close())
    // In exclusive mode SQLite needs no locks and no shared memory. For each row that changes,
    // SQLite writes a whole page to the log, so small pages make syncs short.
    database.exec(`
      PRAGMA page_size = 1024; PRAGMA locking_mode = EXCLUSIVE;
      PRAGMA cache_size = -4096; PRAGMA wal_autocheckpoint = 4096;
    `)
    // Again, because the log may have a newer version than the file.
    refuseNewerLayer(database, file)
    unfinished.move()
    return database
  } catch (error) {
    throw unlessKnown(file, error)
  }
}

function unlessKnown(file: string, error: unknown): unknown {
  if (error instanceof NetimageError) return error
  return databaseError(`could not open the layer ${file}`, withQuota(error, file), {
    details: { file },
    hint,
  })
}

/** @returns undefined if the database is new */
function formatOf(database: DatabaseSync): SQLOutputValue | undefined {
  return metaOf(database, 'format')
}

function metaOf(database: DatabaseSync, name: string): SQLOutputValue | undefined {
  const known = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").get()
  return known && database.prepare('SELECT value FROM meta WHERE name = ?').get(name)?.['value']
}

/** Writes which program wrote the file, for a netimage that does not know the format. */
function signFile(database: DatabaseSync): void {
  if (metaOf(database, 'writtenBy') === writer && versionOf(database) === format) return
  try {
    database.exec(`PRAGMA user_version = ${format}`)
    database.prepare("INSERT OR REPLACE INTO meta VALUES ('writtenBy', ?)").run(writer)
  } catch (error) {
    // The layer must open on a full disk: the machine then reads its files and can remove some.
    if (!isDatabaseFull(error)) throw error
  }
}

function refuseNewerFile(file: string): void {
  if (!existsSync(file)) return
  const database = openUnchanging(file)
  try {
    refuseNewerLayer(database, file)
  } catch (error) {
    // If the file cannot be read, opening it for writing fails next, and that error tells why.
    if (error instanceof NetimageError) throw error
  } finally {
    database.close()
  }
}

/** @throws `NetimageError` `bad-state` for a file of a newer netimage */
export function refuseNewerLayer(database: DatabaseSync, file: string): void {
  const version = versionOf(database)
  const said = formatOf(database)
  if (version <= format && !(typeof said === 'number' && said > format)) return
  throw newerFormat(file, metaOf(database, 'writtenBy'))
}

function versionOf(database: DatabaseSync): number {
  return Number(database.prepare('PRAGMA user_version').get()?.['user_version'])
}

function older(file: string): OlderFormat {
  return new OlderFormat('bad-state', `${file} was written by an older netimage`, {
    details: { file },
    hint: 'Boot the machine, or run netimage layers verify: both bring the layer to the new format.',
  })
}

export function notALayer(file: string, why: string): NetimageError {
  return new NetimageError('bad-state', `${file} is not a layer of this netimage: ${why}`, {
    details: { file },
    hint,
  })
}
