// What a server has learnt of machines, and what the next server finds of it.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { recordFile, useBootDatabase } from '../../src/boots/database.ts'
import { openFacts } from '../../src/boots/facts.ts'
import { DatabaseSync } from 'node:sqlite'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())

function open(state: string, onError: (error: Error) => void = assert.ifError) {
  return useBootDatabase(state, onError, (database) => {
    const facts = openFacts(database, onError)
    return { ...facts, close: () => database.close() }
  })
}

suite('facts about machines', () => {
  test('are found by the next server, even if this one is killed right after the turn', async () => {
    const state = freshName()
    const first = open(state)
    first.keep('processor', 'a', '7')
    first.keep('processor', 'b', 'raspberry-pi')
    first.keep('processor', 'a', '11')
    first.keep('address', '10.0.0.7', 'a')
    await nextTurn()
    // Not closed: as if it was killed.
    const second = open(state)
    const processors = Object.fromEntries(second.known('processor'))
    assert.deepEqual(processors, { a: '11', b: 'raspberry-pi' })
    assert.deepEqual([...second.known('address')], [['10.0.0.7', 'a']])
    second.close()
    first.close()
  })

  test('are forgotten if there are more than 4096 of a kind, the oldest first', () => {
    const state = freshName()
    const first = open(state)
    first.keep('address', '10.0.0.7', 'a')
    first.keep('processor', 'old', '7')
    for (let count = 0; count < 4095; count++) first.keep('processor', String(count), '7')
    first.flush()
    // It is the newest now.
    first.keep('processor', 'old', '11')
    first.keep('processor', 'new', '7')
    first.flush()
    first.close()
    const second = open(state)
    const known = second.known('processor')
    assert.equal(known.size, 4096)
    assert.deepEqual([known.get('0'), known.get('1'), known.get('old')], [undefined, '7', '11'])
    assert.equal(second.known('address').size, 1)
    second.close()
  })

  test('that cannot be written are told once, and keep no server from its work', () => {
    const errors: Error[] = []
    const state = freshName()
    const facts = open(state, (error) => void errors.push(error))
    const other = new DatabaseSync(recordFile(state))
    other.exec('ALTER TABLE facts RENAME TO gone')
    for (const machine of ['a', 'b']) {
      facts.keep('processor', machine, '7')
      facts.flush()
    }
    assert.equal(errors.length, 1)
    other.exec('ALTER TABLE gone RENAME TO facts')
    other.close()
    facts.keep('processor', 'c', '7')
    facts.flush()
    facts.close()
    const later = open(state)
    assert.deepEqual([...later.known('processor').keys()], ['c'])
    later.close()
  })
})
