/** Copies a database, so that it can be read later without room on its disk. */
import { DatabaseSync } from 'node:sqlite'

/** @param except tables of which no row is copied */
export function copyToMemory(from: DatabaseSync, except: readonly string[]): DatabaseSync {
  const copy = new DatabaseSync(':memory:')
  const tables = from
    .prepare(
      "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    )
    .all()
  copy.exec('BEGIN')
  for (const { name, sql } of tables) {
    copy.exec(String(sql))
    if (!except.includes(String(name))) copyRows(from, copy, String(name))
  }
  copy.exec('COMMIT')
  return copy
}

function copyRows(from: DatabaseSync, to: DatabaseSync, table: string): void {
  const rows = from.prepare(`SELECT * FROM ${table}`)
  rows.setReadBigInts(true)
  const places = rows.columns().map(() => '?')
  const insert = to.prepare(`INSERT INTO ${table} VALUES (${places.join(', ')})`)
  for (const row of rows.iterate()) insert.run(...Object.values(row))
}
