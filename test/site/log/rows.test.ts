// The rows of the log of a site: what is written is read again, whatever a machine or a person wrote into it.

import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { openSiteDatabase, openSiteToRead, siteFile } from '../../../src/site/database.ts'
import type { Entry, Noted } from '../../../src/site/log/entry.ts'
import { mostOfMachine, type LogQuery } from '../../../src/site/log/rows.ts'
import { saysWhat, saysWho } from '../../../src/site/log/sentence.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())
const machine = 'dc:a6:32:01:02:03'
const start = 1_700_000_000_000
const day = 24 * 60 * 60_000
const alice = { kind: 'person', uid: 1000, name: 'alice' } as const
const server = { kind: 'server' } as const
const isVoid = { kind: 'attempt void', generation: 1 } as const

function note(state: string, ...noted: readonly Noted[]): void {
  const site = openSiteDatabase(state)
  for (const each of noted) site.change((writer) => writer.note(each))
  site.close()
}

function run(state: string, sql: string): void {
  const database = new DatabaseSync(siteFile(state))
  database.exec(sql)
  database.close()
}

function read(state: string, query: LogQuery = {}) {
  const site = openSiteToRead(state)
  try {
    return site?.log(query) ?? assert.fail('there is no site')
  } finally {
    site?.close()
  }
}

/** How many rows have a higher number. */
function countIn(state: string, after = 0): number {
  const database = new DatabaseSync(siteFile(state))
  const found = database.prepare('SELECT count(*) AS rows FROM log WHERE number > ?').get(after)
  database.close()
  return Number(found?.['rows'])
}

const added = (at: number): Noted => ({
  ...{ at, who: alice },
  entry: { kind: 'added', image: 'a', imageName: 'pi' },
})

/** As JSON is read: with the prototype of all objects. */
const plain = { noNullPrototype: true } as const
const text = fc.string({ unit: 'binary', maxLength: 20 })
const count = fc.nat()
const entries: fc.Arbitrary<Entry> = fc.oneof(
  fc.record(
    { kind: fc.constantFrom('good', 'alarm', 'state back'), generation: count, reason: text },
    { requiredKeys: ['kind', 'generation'], noNullPrototype: true },
  ),
  fc.record(
    {
      kind: fc.constantFrom('assigned', 'published'),
      ...{ generation: count, result: fc.constantFrom('new', 'same', 'back') },
      ...{ image: text, imageName: text, toplevel: text, before: count },
    },
    { requiredKeys: ['kind', 'generation', 'result', 'image', 'toplevel'], noNullPrototype: true },
  ),
  fc.record({ kind: fc.constant('refused'), toplevel: text, reason: text }, plain),
  fc.record(
    {
      ...{ kind: fc.constant('rolled back'), generation: count, before: count },
      state: fc.record({ snapshot: text, leftAs: text }, plain),
    },
    plain,
  ),
  fc.record({ kind: fc.constant('named'), newName: text, before: text }, plain),
  fc.record({ kind: fc.constantFrom('added', 'repaired'), image: text, imageName: text }, plain),
  fc.record({ kind: fc.constant('removed'), images: fc.array(text), more: count }, plain),
  fc.record(
    {
      ...{ kind: fc.constant('freed'), storePaths: count, freedBytes: count },
      mayShareBlocks: fc.boolean(),
    },
    plain,
  ),
)
const whos = fc.oneof(
  fc.record(
    {
      ...{ kind: fc.constant('person'), uid: fc.nat(), name: text },
      sudo: fc.record(
        { user: text, uid: fc.nat() },
        { requiredKeys: ['user'], noNullPrototype: true },
      ),
    },
    { requiredKeys: ['kind', 'uid'], noNullPrototype: true },
  ),
  fc.record({ kind: fc.constantFrom('server', 'machine') }, plain),
)

suite('the log of a site', () => {
  test('has what was noted, in this order, with any text in it', () => {
    const state = freshName()
    const row = fc.record(
      {
        at: fc.integer({ min: start, max: start + 399 * day }),
        machine: text,
        who: whos,
        entry: entries,
      },
      { requiredKeys: ['at', 'who', 'entry'], noNullPrototype: true },
    )
    openSiteDatabase(state).close()
    fc.assert(
      fc.property(fc.array(row, { maxLength: 5 }), (noted) => {
        const { last } = read(state)
        note(state, ...noted)
        const found = read(state, { after: last })
        const expected = noted.map((each, place) => ({ ...each, number: last + 1 + place }))
        assert.deepEqual(found.rows, expected)
        for (const each of expected) {
          const said = saysWhat(each.entry, each.who) + saysWho(each.who, each.machine)
          assert.doesNotMatch(said, /undefined|\[object/)
        }
      }),
      { numRuns: 30 },
    )
  })

  test('can be asked for one machine, a time, and the newest rows', () => {
    const state = freshName()
    const own: Noted = { at: start + 1, machine, who: server, entry: isVoid }
    note(state, added(start), own, added(start + 2), { ...own, at: start + 3 })
    const numbers = (query: LogQuery) => read(state, query).rows.map(({ number }) => number)
    assert.deepEqual(numbers({}), [1, 2, 3, 4])
    assert.deepEqual(numbers({ machine }), [2, 4])
    assert.deepEqual(numbers({ since: start + 2 }), [3, 4])
    assert.deepEqual(numbers({ newest: 1 }), [4])
    assert.deepEqual(numbers({ machine, newest: 1, since: start + 4 }), [])
    assert.deepEqual(read(state, { machine, after: 4 }), { rows: [], last: 4 })
  })

  test('shows broken rows as broken, and goes on', () => {
    const state = freshName()
    note(state, ...Array.from({ length: 7 }, (_, place) => added(start + place)))
    run(state, `UPDATE log SET details = '{' WHERE number = 1`)
    run(state, `UPDATE log SET details = '[]' WHERE number = 2`)
    run(state, `UPDATE log SET kind = 'of a newer netimage' WHERE number = 3`)
    run(state, `UPDATE log SET who = 'nobody' WHERE number = 4`)
    run(state, `UPDATE log SET at = 9223372036854775807 WHERE number = 5`)
    run(state, `UPDATE log SET details = CAST(x'ff00' AS TEXT) WHERE number = 6`)
    note(state, { at: start + 8, machine, who: server, entry: isVoid })
    const { rows } = read(state)
    assert.deepEqual(
      rows.map((row) => 'broken' in row),
      [true, true, true, true, true, true, false, false],
    )
  })

  test('forgets rows of long ago, in pieces', () => {
    const state = freshName()
    const fill = (rows: number, at: number) =>
      run(
        state,
        `WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ${rows})
         INSERT INTO log (at, kind, who, details) SELECT ${at}, 'too many', 'server', '{}' FROM counted`,
      )
    const sizes = (times: number) =>
      Array.from({ length: times }, () => {
        note(state, added(start + 401 * day))
        return countIn(state)
      })
    openSiteDatabase(state).close()
    fill(250, start)
    assert.deepEqual(sizes(4), [151, 52, 3, 4])
    fill(200_150, start + 400 * day)
    assert.deepEqual(sizes(4), [200_055, 200_000, 200_000, 200_000])
    const { last, rows } = read(state, { newest: 1 })
    assert.equal(rows[0]?.number, last)
    assert.equal(countIn(state, last - 200_000), 200_000)
  })

  test('keeps what people did if a machine causes many rows', () => {
    const state = freshName()
    const other = '02:00:00:00:00:01'
    const said: Noted = { at: start, machine, who: alice, entry: { kind: 'bad', generation: 1 } }
    const cut: Noted = { at: start, machine, who: server, entry: isVoid }
    const flood = Array.from({ length: mostOfMachine + 50 }, (_, place) => ({
      ...cut,
      at: start + place,
    }))
    note(state, ...flood)
    const kinds = (query: LogQuery = { machine, after: mostOfMachine - 1 }) =>
      read(state, query).rows.map((row) => 'entry' in row && row.entry.kind)
    assert.deepEqual(kinds(), ['attempt void', 'too many'])
    note(state, { ...said, at: start + day / 2 }, { ...cut, machine: other })
    note(state, { ...cut, at: start + day / 2 })
    assert.deepEqual(kinds(), ['attempt void', 'too many', 'bad'])
    note(state, { ...cut, at: start + 2 * day })
    assert.deepEqual(kinds(), ['attempt void', 'too many', 'bad', 'attempt void'])
    assert.deepEqual(kinds({ machine: other }), ['attempt void'])
  })

  test('shortens a long reason', () => {
    const state = freshName()
    const reason = 'x'.repeat(100_000)
    note(state, { at: start, machine, who: server, entry: { ...isVoid, reason } })
    assert.partialDeepStrictEqual(read(state).rows, [{ entry: { reason: `${'x'.repeat(1000)}…` } }])
  })
})
