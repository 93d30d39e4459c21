/**
 * The database of a layer: the nodes that are new or changed, the directory entries that differ
 * from the image's, and the replies to requests that must not be done twice.
 */
import { join } from 'node:path'
import type { SQLOutputValue, StatementSync } from 'node:sqlite'

import { isDatabaseBroken, withQuota } from '../database-error.ts'
import { messageOf } from '../errors.ts'
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { shareCache } from './cache-share.ts'
import { openDatabaseFile } from './database-file.ts'
import {
  bytesOf,
  fromNodeRow,
  toEntryRow,
  toNodeRow,
  toPlacedEntry,
  type EntryRow,
  type NodeRow,
  type PlacedEntry,
} from './layer-rows.ts'
import { schema } from './layer-schema.ts'
import { openLog, type LogOperations } from './write-ahead-log.ts'

/** A file that an image brings outside its store paths, and the number that it has in the layer. */
export interface FileNumber {
  number: number
  /** Below the root, with a slash before each name. The root has no entry here. */
  path: Buffer
}

/** A store path that an image brings, and the number that it has in the layer. */
export interface PathNumber {
  number: number
  name: string
  narHash: string
}

/** A value that a statement takes. */
export type StatementValue = number | string | Buffer | null

export interface LayerDatabase extends LogOperations {
  readMeta(name: string): string | number | undefined
  writeMeta(name: string, value: string | number): void
  readNode(id: NodeId): NodeRow | undefined
  writeNode(row: NodeRow): void
  deleteNode(id: NodeId): void
  readEntry(directory: NodeId, name: Buffer): EntryRow | undefined
  writeEntry(directory: NodeId, entry: EntryRow): void
  deleteEntry(directory: NodeId, name: Buffer): void
  /** @param most how many are deleted at most @returns how many were deleted */
  deleteEntries(directory: NodeId, most: number): number
  /** The entries from `first` to `last` whose names the image has, too. */
  entriesInImage(directory: NodeId, first: Buffer, last: Buffer): EntryRow[]
  /** How many names of the image from `first` to `last` the machine removed. */
  countTaken(directory: NodeId, first: Buffer, last: Buffer): number
  /** The entries after a cookie that name a node, in the order of their cookies. */
  listEntries(directory: NodeId, cookie: number, limit: number): EntryRow[]
  /** As the first column of the rows, one after the other. The tables must not change meanwhile. */
  numbers(select: string, ...values: number[]): Iterable<number>
  /** One after the other. The table must not change meanwhile. */
  eachFileNumber(): Iterable<FileNumber>
  writeFileNumber(file: FileNumber): void
  /** The largest number that was given; 0: none. */
  lastFileNumber(): number
  /** In the order of the bytes of the names. */
  pathNumbers(): PathNumber[]
  /** Only store paths whose structure is known. */
  structures(): Map<number, string>
  lastPathNumber(): number
  writePathNumber(path: PathNumber): void
  /** Known if the machine has used or changed a node of this path: see `ImageIndex.structureOf`. */
  structureOf(path: number): string | undefined
  writeStructure(path: number, structure: string): void
  readReply(key: Buffer): Buffer | undefined
  writeReply(number: number, key: Buffer, reply: Buffer): void
  isInTransaction(): boolean
  begin(): void
  commit(): void
  rollback(): void
  /** Bytes of the file that deleted rows have left: new rows take their room first. */
  reusableBytes(): number
  /** Problems that SQLite finds in the file itself. */
  damage(): string[]
  /** @param where a condition on the columns of `entries` */
  entriesWhere(where: string, ...values: number[]): PlacedEntry[]
  /** As `entriesWhere`, one after the other. The table must not change meanwhile. */
  eachEntry(where: string, ...values: number[]): Iterable<PlacedEntry>
  /**
   * The nodes whose rows match, one after the other. The table must not change meanwhile.
   *
   * @param where a condition on the columns of `nodes`
   */
  eachNode(where: string, ...values: number[]): Iterable<NodeRow>
  /** Store paths that the machine made, and that paths of images hide now. */
  hiddenPaths(): { name: Buffer; node: NodeId }[]
  hidePath(name: Buffer, node: NodeId): void
  showPath(name: Buffer): void
  select(sql: string, ...values: StatementValue[]): Record<string, SQLOutputValue>[]
  run(sql: string, ...values: StatementValue[]): void
  /** All rows of a table, one after the other. The table must not change meanwhile. */
  all(table: 'nodes' | 'entries' | 'bound'): Iterable<Record<string, SQLOutputValue>>
  /** Does nothing if the disk failed to write what was moved: closing the database would remove the log. */
  close(): void
}

const selectEntries = 'SELECT directory, name, node, cookie FROM entries'

export function databaseFile(directory: string): string {
  return join(directory, 'layer.sqlite')
}

/**
 * @throws `NetimageError` `bad-state`, also for the layer of a newer netimage (left unchanged), and
 *   `OlderFormat`
 */
export function openLayerDatabase(directory: string): LayerDatabase {
  const file = databaseFile(directory)
  using unfinished = new DisposableStack()
  const database = unfinished.adopt(openDatabaseFile(file, schema), (opened) => opened.close())
  unfinished.defer(shareCache((kibibytes) => database.exec(`PRAGMA cache_size = ${-kibibytes}`)))

  const statements = {
    readMeta: database.prepare('SELECT value FROM meta WHERE name = ?'),
    writeMeta: database.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)'),
    readNode: database.prepare('SELECT * FROM nodes WHERE id = ?'),
    writeNode: database.prepare(
      'INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
    ),
    deleteNode: database.prepare('DELETE FROM nodes WHERE id = ?'),
    readEntry: database.prepare(
      'SELECT node, cookie FROM entries WHERE directory = ? AND name = ?',
    ),
    writeEntry: database.prepare('INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)'),
    deleteEntry: database.prepare('DELETE FROM entries WHERE directory = ? AND name = ?'),
    deleteEntries: database.prepare(
      `DELETE FROM entries WHERE directory = ?1
       AND name IN (SELECT name FROM entries WHERE directory = ?1 ORDER BY name LIMIT ?2)`,
    ),
    listEntries: database.prepare(
      `SELECT name, node, cookie FROM entries
       WHERE directory = ? AND cookie > ? AND node IS NOT NULL ORDER BY cookie LIMIT ?`,
    ),
    // There may be any number of new names between the two. This index leaves them out.
    entriesInImage: database.prepare(
      `SELECT name, node, cookie FROM entries INDEXED BY entries_by_cookie
       WHERE directory = ? AND cookie = 0 AND name BETWEEN ? AND ?`,
    ),
    countTaken: database.prepare(
      `SELECT count(*) AS count FROM entries
       WHERE directory = ? AND name BETWEEN ? AND ? AND node IS NULL`,
    ),
    writeFileNumber: database.prepare('INSERT INTO files VALUES (?, ?)'),
    pathNumbers: database.prepare('SELECT number, name, nar_hash FROM paths ORDER BY name'),
    structures: database.prepare('SELECT number, structure FROM paths WHERE structure IS NOT NULL'),
    last: {
      files: database.prepare('SELECT max(number) AS last FROM files'),
      paths: database.prepare('SELECT max(number) AS last FROM paths'),
    },
    writePathNumber: database.prepare('INSERT INTO paths VALUES (?, ?, ?, NULL)'),
    writeStructure: database.prepare('UPDATE paths SET structure = ? WHERE number = ?'),
    structureOf: database.prepare('SELECT structure FROM paths WHERE number = ?'),
    readReply: database.prepare('SELECT reply FROM replies WHERE key = ?'),
    writeReply: database.prepare('INSERT OR REPLACE INTO replies VALUES (?, ?, ?)'),
    reusable: database.prepare(
      'SELECT freelist_count * page_size AS bytes FROM pragma_freelist_count, pragma_page_size',
    ),
    begin: database.prepare('BEGIN IMMEDIATE'),
    commit: database.prepare('COMMIT'),
    rollback: database.prepare('ROLLBACK'),
  }
  // Each opening of a layer reads thousands of these rows. As arrays this takes half the time.
  statements.pathNumbers.setReturnArrays(true)
  const log = unfinished.adopt(openLog(database, file), (opened) => opened.close())

  const others = new Map<string, StatementSync>()
  function prepared(sql: string, as: 'objects' | 'arrays' = 'objects'): StatementSync {
    const key = `${as} ${sql}`
    const known = others.get(key)
    if (known) return known
    const statement = database.prepare(sql)
    statement.setReturnArrays(as === 'arrays')
    others.set(key, statement)
    return statement
  }

  const opened = unfinished.move()
  return {
    readMeta(name) {
      const value = statements.readMeta.get(name)?.['value']
      return typeof value === 'string' || typeof value === 'number' ? value : undefined
    },
    writeMeta: (name, value) => void statements.writeMeta.run(name, value),
    readNode(id) {
      const row = statements.readNode.get(id)
      return row && toNodeRow(row, file)
    },
    writeNode: (row) => void statements.writeNode.run(...fromNodeRow(row)),
    deleteNode: (id) => void statements.deleteNode.run(id),
    readEntry(directory, name) {
      const row = statements.readEntry.get(directory, name)
      return row && toEntryRow({ ...row, name })
    },
    writeEntry: (directory, { name, node, cookie }) =>
      void statements.writeEntry.run(directory, name, node ?? null, cookie),
    deleteEntry: (directory, name) => void statements.deleteEntry.run(directory, name),
    deleteEntries: (directory, most) =>
      Number(statements.deleteEntries.run(directory, most).changes),
    entriesInImage: (directory, first, last) =>
      statements.entriesInImage.all(directory, first, last).map(toEntryRow),
    countTaken: (directory, first, last) =>
      Number(statements.countTaken.get(directory, first, last)?.['count']),
    listEntries: (directory, cookie, limit) =>
      statements.listEntries.all(directory, cookie, limit).map(toEntryRow),
    *numbers(select, ...values) {
      for (const { 0: number } of prepared(select, 'arrays').iterate(...values)) {
        yield Number(number)
      }
    },
    *eachFileNumber() {
      const select = database.prepare('SELECT number, path FROM files')
      select.setReturnArrays(true)
      for (const { 0: number, 1: path } of select.iterate()) {
        yield { number: Number(number), path: bytesOf(path) }
      }
    },
    writeFileNumber: ({ number, path }) => void statements.writeFileNumber.run(number, path),
    lastFileNumber: () => Number(statements.last.files.get()?.['last'] ?? 0),
    pathNumbers: () =>
      statements.pathNumbers.all().map(({ 0: number, 1: name, 2: narHash }) => ({
        number: Number(number),
        name: String(name),
        narHash: String(narHash),
      })),
    structures() {
      const rows = statements.structures.all()
      return new Map(rows.map(({ number, structure }) => [Number(number), String(structure)]))
    },
    lastPathNumber: () => Number(statements.last.paths.get()?.['last'] ?? 0),
    writePathNumber: ({ number, name, narHash }) =>
      void statements.writePathNumber.run(number, name, narHash),
    writeStructure: (path, structure) => void statements.writeStructure.run(structure, path),
    structureOf(path) {
      const structure = statements.structureOf.get(path)?.['structure']
      return typeof structure === 'string' ? structure : undefined
    },
    readReply(key) {
      const reply = statements.readReply.get(key)?.['reply']
      return reply instanceof Uint8Array ? Buffer.from(reply) : undefined
    },
    writeReply: (number, key, reply) => void statements.writeReply.run(number, key, reply),
    isInTransaction: () => database.isTransaction,
    begin: () => void statements.begin.run(),
    commit() {
      try {
        statements.commit.run()
      } catch (error) {
        throw withQuota(error, file)
      }
    },
    rollback() {
      // SQLite may have rolled back itself. It does so if the disk is full.
      if (database.isTransaction) statements.rollback.run()
    },
    ...log.operations,
    reusableBytes: () => Number(statements.reusable.get()?.['bytes']),
    damage() {
      try {
        const found = database.prepare('PRAGMA integrity_check').all()
        return found.map((row) => String(row['integrity_check'])).filter((text) => text !== 'ok')
      } catch (error) {
        if (!isDatabaseBroken(error)) throw error
        return [messageOf(error)]
      }
    },
    hiddenPaths: () =>
      database
        .prepare('SELECT name, node FROM hidden')
        .all()
        .map(({ name, node }) => ({ name: bytesOf(name), node: Number(node) })),
    hidePath: (name, node) => void prepared('INSERT INTO hidden VALUES (?, ?)').run(name, node),
    showPath: (name) => void prepared('DELETE FROM hidden WHERE name = ?').run(name),
    entriesWhere: (where, ...values) =>
      prepared(`${selectEntries} WHERE ${where}`)
        .all(...values)
        .map(toPlacedEntry),
    *eachEntry(where, ...values) {
      const select = database.prepare(`${selectEntries} WHERE ${where}`)
      for (const row of select.iterate(...values)) yield toPlacedEntry(row)
    },
    *eachNode(where, ...values) {
      const select = database.prepare(`SELECT * FROM nodes WHERE ${where}`)
      for (const row of select.iterate(...values)) yield toNodeRow(row, file)
    },
    select: (sql, ...values) => prepared(sql).all(...values),
    run: (sql, ...values) => void prepared(sql).run(...values),
    all: (table) => database.prepare(`SELECT * FROM ${table}`).iterate(),
    close() {
      if (!log.mustStay()) opened.dispose()
    },
  }
}
