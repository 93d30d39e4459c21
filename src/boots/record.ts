/** Boots and their events as they are kept: what `netimage boots` shows afterwards. */
import { existsSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import * as v from 'valibot'

import { messageOf, NetimageError } from '../errors.ts'
import { databaseError } from '../database-error.ts'
import type { ServeEvent } from '../protocols/event.ts'
import type { Boot } from './follow.ts'
import { bootSteps, type BootStep } from './step.ts'

export interface BootRecord {
  /**
   * Adds an event of a boot. What was added in one turn of the event loop is kept at its end, whatever
   * kills the server then: a transaction for each event would cost a busy server a third of its time.
   */
  add(boot: Boot, event: ServeEvent, at: number, isServed?: boolean): void
  /** Keeps what was added until now. */
  close(): void
}

export interface RecordedEvent {
  at: number
  event: unknown
}

/** How long another one may write meanwhile. Milliseconds. */
const timeout = 5000
/** More than a year of a shelf of machines that boot every day. */
const keptBoots = 10_000
/** A machine that asks without end fills no disk. */
const keptEventsOfABoot = 2000

const schema = `
  CREATE TABLE IF NOT EXISTS boots (
    id INTEGER PRIMARY KEY,
    machine TEXT NOT NULL,
    started INTEGER NOT NULL,
    boot TEXT NOT NULL,
    UNIQUE (machine, started)
  ) STRICT;
  CREATE TABLE IF NOT EXISTS events (
    boot INTEGER NOT NULL REFERENCES boots ON DELETE CASCADE,
    at INTEGER NOT NULL,
    event TEXT NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS events_boot ON events (boot);
`

export function recordFile(state: string): string {
  return join(state, 'boots.sqlite')
}

/** @param onError told once, not for each event for which the disk is still full */
export function openBootRecord(state: string, onError: (error: NetimageError) => void): BootRecord {
  const file = recordFile(state)
  const database = openDatabase(file, false)
  const upsert = database.prepare(
    `INSERT INTO boots (machine, started, boot) VALUES (?, ?, ?)
     ON CONFLICT DO UPDATE SET boot = excluded.boot RETURNING id`,
  )
  const count = database.prepare('SELECT count(*) AS events FROM events WHERE boot = ?')
  const insert = database.prepare('INSERT INTO events (boot, at, event) VALUES (?, ?, ?)')
  const forget = database.prepare(
    `DELETE FROM boots WHERE id <= (SELECT max(id) FROM boots) - ${keptBoots}`,
  )
  let added = new Map<Boot, RecordedEvent[]>()
  let isFailing = false

  function keep(): void {
    const boots = added
    added = new Map()
    try {
      database.exec('BEGIN')
      for (const [boot, events] of boots) keepBoot(boot, events)
      forget.run()
      database.exec('COMMIT')
      isFailing = false
    } catch (error) {
      if (database.isTransaction) database.exec('ROLLBACK')
      if (!isFailing) onError(keepError(file, error))
      isFailing = true
    }
  }

  function keepBoot(boot: Boot, events: readonly RecordedEvent[]): void {
    const id = upsert.get(boot.machine, boot.started, JSON.stringify(boot))?.['id']
    if (typeof id !== 'number') return
    const left = keptEventsOfABoot - Number(count.get(id)?.['events'])
    for (const { at, event } of events.slice(0, Math.max(0, left))) {
      insert.run(id, at, JSON.stringify(event))
    }
  }

  return {
    add(boot, event, at) {
      if (added.size === 0) setImmediate(() => database.isOpen && added.size > 0 && keep())
      const events = added.get(boot)
      if (events) events.push({ at, event })
      else added.set(boot, [{ at, event }])
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
    { cause: error, hint: 'Machines boot all the same, but `netimage boots` will lack it.' },
  )
}

const time = v.pipe(v.number(), v.safeInteger())
const stepSchema = v.picklist(bootSteps)
const bootSchema = v.object({
  machine: v.string(),
  address: v.optional(v.string()),
  started: time,
  step: stepSchema,
  steps: v.record(stepSchema, v.optional(time)),
  lastSign: time,
  bytes: v.number(),
  trouble: v.optional(v.string()),
})

/** The newest first, also where the clock went back meanwhile. @param machine only its boots, by hardware or IP address */
export function readBoots(state: string, machine: string | undefined, limit: number): Boot[] {
  const file = recordFile(state)
  if (!existsSync(file)) return []
  const database = openDatabase(file, true)
  try {
    const rows = database
      .prepare(
        `SELECT boot FROM boots
         WHERE ?1 IS NULL OR machine = ?1 OR json_extract(boot, '$.address') = ?1
         ORDER BY id DESC LIMIT ?2`,
      )
      .all(machine ?? null, limit)
    return rows.map((row) => toBoot(parseJson(row['boot']), file))
  } finally {
    database.close()
  }
}

/** All that is kept of one boot, in the order in which it happened. */
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

function toBoot(document: unknown, file: string): Boot {
  const result = v.safeParse(bootSchema, document)
  if (!result.success) {
    throw new NetimageError('bad-state', `${file} has a boot that cannot be read`, {
      hint: 'It may be of another version of netimage. Move it away to begin a new one.',
    })
  }
  const { address, trouble, steps, ...boot } = result.output
  const reached: Partial<Record<BootStep, number>> = {}
  for (const step of bootSteps) {
    const at = steps[step]
    if (at !== undefined) reached[step] = at
  }
  return {
    ...boot,
    steps: reached,
    ...(address !== undefined && { address }),
    ...(trouble !== undefined && { trouble }),
  }
}

/**
 * A reader of a write-ahead log has to write beside it. Who may not can still read what a server has
 * left at its end, when there is no log. https://www.sqlite.org/wal.html#read_only_databases
 */
function openToRead(file: string): DatabaseSync {
  try {
    const database = new DatabaseSync(file, { readOnly: true, timeout })
    database.exec('SELECT id FROM boots LIMIT 1')
    return database
  } catch (error) {
    if (existsSync(`${file}-wal`)) throw error
    const url = pathToFileURL(file)
    url.searchParams.set('immutable', '1')
    const database = new DatabaseSync(url, { readOnly: true })
    database.exec('SELECT id FROM boots LIMIT 1')
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
    if (readOnly) return openToRead(file)
    mkdirSync(dirname(file), { recursive: true })
    const database = new DatabaseSync(file, { timeout })
    database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; ${schema}`)
    return database
  } catch (error) {
    throw databaseError(
      `could not open the boots in ${file}`,
      error,
      'Move it away to begin a new record; nothing but the past is lost.',
    )
  }
}
