// Errors that real SQLite gives, as they come through Node.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { suite, test } from 'node:test'
import { databaseError, isDatabaseBusy, isDatabaseFull } from '../src/database-error.ts'
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

suite('a database', () => {
  const directory = temporaryDirectory()

  test('that another connection has locked is busy', () => {
    const [first, second] = [0, 1].map(() => new DatabaseSync(join(directory, 'locked')))
    assert.ok(first && second)
    first.exec('BEGIN EXCLUSIVE')
    const error = errorOf(() => second.exec('BEGIN EXCLUSIVE'))
    assert.equal(codeOf(error), 5)
    assert.ok(isDatabaseBusy(error))
    first.close()
    second.close()
  })

  test('that was changed since it was read is busy, with an extended code', () => {
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

  test('that may not grow is full', () => {
    const database = new DatabaseSync(join(directory, 'full'))
    database.exec('PRAGMA max_page_count = 2; CREATE TABLE t (x)')
    const error = errorOf(() => database.exec('INSERT INTO t VALUES (zeroblob(100000))'))
    assert.ok(isDatabaseFull(error))
    assert.ok(!isDatabaseBusy(error))
    assert.equal(databaseError('could not write x', error, 'hint').code, 'disk-full')
    database.close()
  })

  test('is neither for an error that is not of SQLite', () => {
    for (const error of [new Error('x'), undefined, Object.assign(new Error(), { errcode: '5' })]) {
      assert.ok(!isDatabaseBusy(error) && !isDatabaseFull(error))
      assert.equal(databaseError('could not open x', error, 'hint').code, 'bad-state')
    }
  })
})
