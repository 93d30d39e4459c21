// Real errors of SQLite, as Node reports them.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { suite, test } from 'node:test'
import {
  databaseError,
  isDatabaseBroken,
  isDatabaseBusy,
  isDatabaseFull,
} from '../src/database-error.ts'
import { temporaryDirectory } from './support/temporary.ts'

function errorOf(action: () => unknown): unknown {
  try {
    action()
  } catch (error) {
    return error
  }
  return assert.fail('it did not fail')
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'errcode' in error ? error.errcode : undefined
}

suite('an error of a database', () => {
  const directory = temporaryDirectory()

  test('is "busy" if another connection has locked the database', () => {
    const [first, second] = [0, 1].map(() => new DatabaseSync(join(directory, 'locked')))
    assert.ok(first && second)
    first.exec('BEGIN EXCLUSIVE')
    const error = errorOf(() => second.exec('BEGIN EXCLUSIVE'))
    assert.equal(codeOf(error), 5)
    assert.ok(isDatabaseBusy(error))
    first.close()
    second.close()
  })

  test('is "busy", with an extended code, if the database changed since it was read', () => {
    const [reader, writer] = [0, 1].map(() => new DatabaseSync(join(directory, 'changed')))
    assert.ok(reader && writer)
    writer.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (x)')
    reader.exec('BEGIN; SELECT * FROM t')
    writer.exec('INSERT INTO t VALUES (1)')
    const error = errorOf(() => reader.exec('INSERT INTO t VALUES (2)'))
    // SQLITE_BUSY_SNAPSHOT
    assert.equal(codeOf(error), 517)
    assert.ok(isDatabaseBusy(error))
    assert.ok(!isDatabaseFull(error))
    reader.close()
    writer.close()
  })

  test('is "full" if the database may not grow', () => {
    const database = new DatabaseSync(join(directory, 'full'))
    database.exec('PRAGMA max_page_count = 2; CREATE TABLE t (x)')
    const error = errorOf(() => database.exec('INSERT INTO t VALUES (zeroblob(100000))'))
    assert.ok(isDatabaseFull(error))
    assert.ok(!isDatabaseBusy(error))
    assert.equal(databaseError('could not write x', error, {}).code, 'disk-full')
    database.close()
  })

  test('is "broken" if a row cannot be what we wrote', () => {
    const database = new DatabaseSync(':memory:')
    database.exec('CREATE TABLE t (x UNIQUE); INSERT INTO t VALUES (9007199254740993)')
    const again = errorOf(() => database.exec('INSERT INTO t SELECT x FROM t'))
    const tooLarge = errorOf(() => database.prepare('SELECT x FROM t').all())
    for (const error of [again, tooLarge]) {
      assert.ok(isDatabaseBroken(error))
      assert.equal(databaseError('could not open x', error, {}).code, 'bad-state')
    }
    database.close()
  })

  test('is neither if the error is not from SQLite', () => {
    for (const error of [new Error('x'), undefined, Object.assign(new Error(), { errcode: '5' })]) {
      assert.ok(!isDatabaseBusy(error) && !isDatabaseFull(error))
      assert.equal(databaseError('could not open x', error, {}).code, 'bad-state')
    }
  })
})
