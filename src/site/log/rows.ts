/** The rows of the log of a site. They are only added, and the oldest are removed. */
import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'
import * as v from 'valibot'

import { messageOf } from '../../errors.ts'
import { entrySchema, whoSchema, type Noted } from './entry.ts'

/** Numbers are never used again, so that a reader can ask for all that came after a number. */
export const logSchema = `
  CREATE TABLE IF NOT EXISTS log (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    machine TEXT,
    kind TEXT NOT NULL,
    who TEXT NOT NULL,
    details TEXT NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS log_caused ON log (machine) WHERE who <> 'person';
`

const dayMs = 24 * 60 * 60_000
const kept = { days: 400, rows: 200_000 }
/** How many of the oldest rows are looked at, each time that a row is added. */
const pieceRows = 100
/**
 * What a machine may cause in a day: it could otherwise fill the log, for example by starting again and
 * again, and what people did would be removed.
 */
export const mostOfMachine = 500
const longestReason = 1000

export type NoteInLog = (noted: Noted) => void

/** The function that it returns adds a row. It is to be called inside a transaction. */
export function logWriter(database: DatabaseSync): NoteInLog {
  const add = database.prepare(
    'INSERT INTO log (at, machine, kind, who, details) VALUES (?, ?, ?, ?, ?)',
  )
  const caused = database.prepare(
    `SELECT kind, CAST(at AS REAL) AS at FROM log WHERE machine = ? AND who <> 'person'
     ORDER BY number DESC LIMIT 1 OFFSET ?`,
  )
  const forget = database.prepare(
    `DELETE FROM log WHERE number IN (SELECT number FROM
       (SELECT number, at FROM log ORDER BY number LIMIT ${pieceRows}) WHERE at < ? OR number <= ?)`,
  )

  function write({ at, machine, who, entry }: Noted): void {
    const { kind, ...rest } = 'reason' in entry ? withShortReason(entry) : entry
    const { kind: whoKind, ...person } = who
    const details = JSON.stringify({ ...rest, ...(whoKind === 'person' && { person }) })
    const values = [Math.round(at), machine ?? null, kind, whoKind, details]
    const { lastInsertRowid } = add.run(...values)
    forget.run(Math.round(at) - kept.days * dayMs, Number(lastInsertRowid) - kept.rows)
  }

  return (noted) => {
    const { at, machine, who } = noted
    if (machine !== undefined && who.kind !== 'person') {
      const first = caused.get(machine, mostOfMachine - 1)
      const isTooMany = first !== undefined && Number(first['at']) > at - dayMs
      if (isTooMany) {
        if (caused.get(machine, 0)?.['kind'] !== 'too many') {
          write({ at, machine, who: { kind: 'server' }, entry: { kind: 'too many' } })
        }
        return
      }
    }
    write(noted)
  }
}

/** The reason can come from a machine. */
function withShortReason<T extends { reason?: string }>(entry: T): T {
  const { reason } = entry
  if (reason === undefined || reason.length <= longestReason) return entry
  return { ...entry, reason: `${reason.slice(0, longestReason)}…` }
}

export interface LogRow extends Noted {
  /** From 1, in the order in which the changes were made. */
  number: number
}

/** A row that is not what netimage writes. */
export interface BrokenLogRow {
  number: number
  broken: string
}

export interface LogQuery {
  /** Only rows about this machine. Default: all rows. */
  machine?: string | undefined
  /** Only rows from this time on. Milliseconds since 1970. */
  since?: number | undefined
  /** Only rows with a higher number. */
  after?: number | undefined
  /** Only so many rows, the newest. */
  newest?: number | undefined
}

export interface FoundInLog {
  /** The oldest first. */
  rows: (LogRow | BrokenLogRow)[]
  /** The number of the newest row of the log, also if it was not asked for. 0: there is none. */
  last: number
}

export function readLog(
  database: DatabaseSync,
  { machine, since, after, newest }: LogQuery,
): FoundInLog {
  // As a REAL, because somebody may have written an integer that no JavaScript number can hold.
  const found = database
    .prepare(
      `SELECT CAST(number AS REAL) AS number, CAST(at AS REAL) AS at, machine, kind, who, details
       FROM log WHERE (?1 IS NULL OR machine = ?1) AND at >= ?2 AND number > ?3
       ORDER BY log.number DESC LIMIT ?4`,
    )
    .all(machine ?? null, since ?? Number.MIN_SAFE_INTEGER, after ?? 0, newest ?? -1)
  const last = database.prepare('SELECT CAST(max(number) AS REAL) AS last FROM log').get()
  return { rows: found.toReversed().map(readRow), last: Number(last?.['last'] ?? 0) }
}

/** What a time of JavaScript can be (ECMA-262, section 21.4.1.1). */
const time = v.pipe(v.number(), v.minValue(-8.64e15), v.maxValue(8.64e15))

const rowSchema = v.object({
  at: time,
  machine: v.nullable(v.string()),
  kind: v.string(),
  who: v.string(),
  details: v.string(),
})

const detailsSchema = v.looseObject({ person: v.optional(v.looseObject({}), {}) })

function readRow(row: Record<string, SQLOutputValue>): LogRow | BrokenLogRow {
  const number = Number(row['number'])
  try {
    const { at, machine, kind, who, details } = v.parse(rowSchema, row)
    const { person, ...rest } = v.parse(detailsSchema, JSON.parse(details))
    return {
      ...{ number, at, ...(machine !== null && { machine }) },
      who: v.parse(whoSchema, { ...person, kind: who }),
      entry: v.parse(entrySchema, { ...rest, kind }),
    }
  } catch (error) {
    return { number, broken: messageOf(error) }
  }
}
