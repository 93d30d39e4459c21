/** The record of boots and their events, which `netimage boots` shows. */
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import * as v from 'valibot'

import { fileSystemError, messageOf, NetimageError } from '../errors.ts'
import { databaseError } from '../database-error.ts'
import type { ServeEvent } from '../protocols/event.ts'
import type { Boot } from './follow.ts'
import { bootSteps, type BootStep } from './step.ts'

export interface BootRecord {
  /**
   * Adds an event of a boot. All events of one turn of the event loop are written in one
   * transaction at its end. A transaction for each event would cost a busy server a third of its
   * time.
   *
   * @param isServed whether the machine is served; machines that are not are counted apart
   */
  add(boot: Boot, event: ServeEvent, at: number, isServed: boolean): void
  /** Writes all added events first. */
  close(): void
}

export interface RecordedEvent {
  at: number
  event: unknown
}

interface Added {
  events: RecordedEvent[]
  isServed: boolean
}

/** How long to wait while another process writes. Milliseconds. */
const timeout = 5000
/**
 * Boots that are kept. 10,000 is more than a year of some twenty machines that boot every day.
 * Boots of strangers (machines that are not served) are counted apart, so that they displace no
 * others.
 */
const kept = { machines: 10_000, strangers: 200 }
/** Events that are kept of a boot, so that a machine that asks without end cannot fill the disk. */
const keptEvents = { machines: 2000, strangers: 100 }

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
`
const addServed = 'ALTER TABLE boots ADD COLUMN served INTEGER NOT NULL DEFAULT 1'
const indexServed = 'CREATE INDEX IF NOT EXISTS boots_served ON boots (served)'

export function recordFile(state: string): string {
  return join(state, 'boots.sqlite')
}

/** @param onError called once for a row of failures, not for each event while the disk is full */
export function openBootRecord(state: string, onError: (error: NetimageError) => void): BootRecord {
  const file = recordFile(state)
  const database = openDatabase(file, false)
  const upsert = database.prepare(
    `INSERT INTO boots (machine, started, boot, served) VALUES (?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET boot = excluded.boot, served = excluded.served RETURNING id`,
  )
  const count = database.prepare('SELECT count(*) AS events FROM events WHERE boot = ?')
  const insert = database.prepare('INSERT INTO events (boot, at, event) VALUES (?, ?, ?)')
  const forget = database.prepare(
    `DELETE FROM boots WHERE served = ?1 AND id <=
       (SELECT id FROM boots WHERE served = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`,
  )
  /** The highest number of a boot so far. Old boots are deleted only when a new boot comes. */
  let newest = 0
  let added = new Map<Boot, Added>()
  let isFailing = false

  function keep(): void {
    const boots = added
    added = new Map()
    try {
      database.exec('BEGIN')
      let isNew = false
      for (const [boot, { events, isServed }] of boots) {
        const id = keepBoot(boot, events, isServed)
        isNew ||= id > newest
        newest = Math.max(newest, id)
      }
      if (isNew) {
        forget.run(1, kept.machines)
        forget.run(0, kept.strangers)
      }
      database.exec('COMMIT')
      isFailing = false
    } catch (error) {
      if (database.isTransaction) database.exec('ROLLBACK')
      if (!isFailing) onError(keepError(file, error))
      isFailing = true
    }
  }

  /** @returns the boot's number; the newest boot has the highest */
  function keepBoot(boot: Boot, events: readonly RecordedEvent[], isServed: boolean): number {
    const row = upsert.get(boot.machine, boot.started, JSON.stringify(boot), isServed ? 1 : 0)
    const id = Number(row?.['id'])
    const most = isServed ? keptEvents.machines : keptEvents.strangers
    const left = most - Number(count.get(id)?.['events'])
    for (const { at, event } of events.slice(0, Math.max(0, left))) {
      insert.run(id, at, JSON.stringify(event))
    }
    return id
  }

  return {
    add(boot, event, at, isServed) {
      if (added.size === 0) setImmediate(() => database.isOpen && added.size > 0 && keep())
      const known = added.get(boot)
      if (known) known.events.push({ at, event })
      else added.set(boot, { events: [{ at, event }], isServed })
    },
    close() {
      if (added.size > 0) keep()
      database.close()
    },
  }
}

function keepError(file: string, error: unknown): NetimageError {
  return new NetimageError(
    'file-system',
    `could not record a boot in ${file}: ${messageOf(error)}`,
    {
      cause: error,
      hint: 'Make room on the disk. Machines still boot, but `netimage boots` will not show it.',
    },
  )
}

const time = v.pipe(v.number(), v.safeInteger())
const isStep = (name: string): name is BootStep => bootSteps.some((step) => step === name)
const bootSchema = v.object({
  machine: v.string(),
  address: v.optional(v.string()),
  started: time,
  // Another version of netimage may have other steps.
  step: v.string(),
  steps: v.record(v.string(), v.optional(time)),
  lastSign: time,
  bytes: v.number(),
  trouble: v.optional(v.string()),
})

/**
 * Reads boots, the newest first, even if the clock went back meanwhile.
 *
 * @param machine reads only boots of this hardware or IP address
 * @param onDamaged called with the number of boots that cannot be read and are left out
 */
export function readBoots(
  state: string,
  machine: string | undefined,
  limit: number,
  onDamaged: (count: number) => void = () => {},
): Boot[] {
  const file = recordFile(state)
  if (!isThere(file)) return []
  const database = openDatabase(file, true)
  try {
    const rows = database
      .prepare(
        `SELECT boot FROM boots
         WHERE ?1 IS NULL OR machine = ?1
           OR (json_valid(boot) AND json_extract(boot, '$.address') = ?1)
         ORDER BY id DESC LIMIT ?2`,
      )
      .all(machine ?? null, limit)
    const boots = rows.flatMap((row) => toBoot(parseJson(row['boot'])) ?? [])
    if (boots.length < rows.length) onDamaged(rows.length - boots.length)
    return boots
  } finally {
    database.close()
  }
}

/** @throws `NetimageError` `file-system` if the user may not look into the directory */
function isThere(file: string): boolean {
  try {
    return statSync(file, { throwIfNoEntry: false }) !== undefined
  } catch (error) {
    const hint = 'Run this as the user of the server, or as root.'
    throw fileSystemError(`could not read ${file}`, error, { hint })
  }
}

/** All recorded events of one boot, in the order in which they happened. */
export function readEvents(state: string, boot: Boot): RecordedEvent[] {
  const database = openDatabase(recordFile(state), true)
  try {
    return database
      .prepare(
        `SELECT at, event FROM events JOIN boots ON boots.id = events.boot
         WHERE machine = ? AND started = ? ORDER BY events.rowid`,
      )
      .all(boot.machine, boot.started)
      .map((row) => ({ at: Number(row['at']), event: parseJson(row['event']) }))
  } finally {
    database.close()
  }
}

function toBoot(document: unknown): Boot | undefined {
  const result = v.safeParse(bootSchema, document)
  if (!result.success) return undefined
  const { address, trouble, step, steps, ...boot } = result.output
  const reached: Partial<Record<BootStep, number>> = {}
  for (const name of bootSteps) {
    const at = steps[name]
    if (at !== undefined) reached[name] = at
  }
  const last = bootSteps.findLast((name) => reached[name] !== undefined) ?? 'dhcp'
  return {
    ...boot,
    step: isStep(step) ? step : last,
    steps: reached,
    ...(address !== undefined && { address }),
    ...(trouble !== undefined && { trouble }),
  }
}

/**
 * To read a database with a write-ahead log, SQLite must write beside it. Without that permission,
 * the database can only be read `immutable`, if the server has ended and left no log.
 * https://www.sqlite.org/wal.html#read_only_databases
 */
function openToRead(file: string): DatabaseSync {
  try {
    const database = new DatabaseSync(file, { readOnly: true, timeout })
    database.exec('SELECT count(*) FROM sqlite_schema')
    return database
  } catch (error) {
    if (existsSync(`${file}-wal`)) throw error
    const url = pathToFileURL(file)
    url.searchParams.set('immutable', '1')
    const database = new DatabaseSync(url, { readOnly: true })
    database.exec('SELECT count(*) FROM sqlite_schema')
    return database
  }
}

function parseJson(text: unknown): unknown {
  try {
    return typeof text === 'string' ? JSON.parse(text) : undefined
  } catch {
    return undefined
  }
}

function openDatabase(file: string, readOnly: boolean): DatabaseSync {
  try {
    // Before anything is written: a file of a newer version must stay as it is.
    if (existsSync(file)) refuseNewer(file)
    if (readOnly) return openToRead(file)
    mkdirSync(dirname(file), { recursive: true })
    const database = new DatabaseSync(file, { timeout })
    database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; ${schema}`)
    if (!hasServed(database)) database.exec(addServed)
    database.exec(`${indexServed}; PRAGMA user_version = ${format}`)
    return database
  } catch (error) {
    if (error instanceof NetimageError) throw error
    throw databaseError(`could not open the boots in ${file}`, error, {
      details: { file },
      hint: 'Move the file away to begin a new record. Only the list of past boots is lost.',
    })
  }
}

function hasServed(database: DatabaseSync): boolean {
  return database
    .prepare('PRAGMA table_info(boots)')
    .all()
    .some((column) => column['name'] === 'served')
}

/** @throws `NetimageError` `bad-state` */
function refuseNewer(file: string): void {
  const database = openToRead(file)
  const found = database.prepare('PRAGMA user_version').get()?.['user_version']
  database.close()
  if (typeof found !== 'number' || found <= format) return
  throw new NetimageError(
    'bad-state',
    `${file} was written by a newer netimage: its format is ${found}, and this netimage knows ${format}`,
    {
      details: { file, expected: format, actual: found },
      hint: 'Use the newer netimage. Or move the file away to begin a new record: only the list of past boots is lost.',
    },
  )
}
