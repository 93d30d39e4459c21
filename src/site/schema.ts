/** The tables of a site's database. Later versions add tables, and leave those that are there as they are. */
import { DatabaseSync } from 'node:sqlite'

import { declarationsSchema } from './declarations.ts'
import { hostKeySchema } from './host-key/rows.ts'
import { logSchema } from './log/rows.ts'
import { rolloutSchema } from './rollout/statements.ts'

/** Makes the tables and indexes that are not there yet. */
export const schema = `
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
  ${logSchema}
  ${rolloutSchema}
  ${hostKeySchema}
  ${declarationsSchema}
`

const tablesIn =
  "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"

let tables: readonly { name: string; sql: string }[] | undefined

/**
 * An earlier netimage wrote the file, and no server of this one has opened it yet. Nothing is in a table that
 * is missing. It is made for this connection alone, because the file must stay as it is.
 */
export function addMissingTables(database: DatabaseSync): void {
  const found = new Set(
    database
      .prepare(tablesIn)
      .all()
      .map(({ name }) => name),
  )
  for (const { name, sql } of (tables ??= tablesOfSchema())) {
    if (!found.has(name)) database.exec(sql.replace('CREATE TABLE', 'CREATE TEMP TABLE'))
  }
}

function tablesOfSchema(): { name: string; sql: string }[] {
  const empty = new DatabaseSync(':memory:')
  try {
    empty.exec(schema)
    const rows = empty.prepare(tablesIn).all()
    return rows.map(({ name, sql }) => ({ name: String(name), sql: String(sql) }))
  } finally {
    empty.close()
  }
}
