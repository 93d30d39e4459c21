// The site of a server, and its database beside other processes.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { DatabaseSync, StatementSync } from 'node:sqlite'
import { suite, test, type TestContext } from 'node:test'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { openSiteDatabase, openSiteToRead, siteFile } from '../../src/site/database.ts'
import { lastAttempt } from '../../src/site/life/life.ts'
import { openSite } from '../../src/site/site.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { assignAllowed, candidate, minutes } from './life/support/simulate.ts'
import { countStatements } from './support/count-statements.ts'

const freshName = freshNames(temporaryDirectory())
const mac = 'dc:a6:32:01:02:03'
const start = 1_700_000_000_000

function open(state: string, at = start) {
  const told: string[] = []
  const errors: Error[] = []
  const site = openSite({
    state,
    at,
    onTold: ({ kind, generation }) => told.push(`${kind} ${generation}`),
    onError: (error) => errors.push(error),
  })
  return { site, told, errors }
}

function livesIn(state: string): string[] | undefined {
  const reader = openSiteToRead(state)
  try {
    return reader?.lives(assert.fail).map(({ machine }) => machine)
  } finally {
    reader?.close()
  }
}

function readAttempts(state: string) {
  const reader = openSiteToRead(state)
  try {
    return reader?.lifeOf(mac).attempts ?? []
  } finally {
    reader?.close()
  }
}

suite('a site', () => {
  test('gives a new machine the default, and what commands choose afterwards', async () => {
    const state = freshName()
    const { site, told } = open(state)
    assert.equal(await site.beginAttempt(mac, start), undefined)
    assert.deepEqual(livesIn(state), [])
    const bound = await site.beginAttempt(mac, start, { byDefault: candidate('a') })
    assert.deepEqual([bound?.generation.image, bound?.generation.number], ['a', 1])
    site.sign(mac, { kind: 'bless', bootId: 'x', toplevel: candidate('a').toplevel }, start + 1)
    for (let at = start; at <= start + 4 * minutes; at += 5000) site.tick(at)
    assert.deepEqual(told, ['good 1'])

    const other = openSiteDatabase(state)
    other.change((writer) => {
      const now = { at: start, uptime: writer.uptime() }
      writer.keep(assignAllowed(writer.of(mac), candidate('b'), now, 'person').life)
    })
    other.close()
    assert.equal(site.currentAttempt(mac)?.generation.number, 1)
    const next = await site.beginAttempt(mac, start + 5 * minutes, { byDefault: candidate('a') })
    assert.deepEqual([next?.generation.image, next?.attempt.number], ['b', 2])
    assert.deepEqual(next?.attempt.keptImages, ['a'])
    site.close(start)
  })

  test('reads a life of one moment, also if a command writes meanwhile', async (t) => {
    const state = freshName()
    const { site } = open(state)
    await site.beginAttempt(mac, start, { byDefault: candidate('a') })
    const other = openSiteDatabase(state)
    const assignB = () =>
      other.change((writer) => {
        const now = { at: start, uptime: 0 }
        writer.keep(assignAllowed(writer.of(mac), candidate('b'), now, 'person').life)
      })
    const name = 'all'
    const original = StatementSync.prototype[name]
    let isAssigned = false
    t.mock.method(StatementSync.prototype, name, function (this: StatementSync, machine: string) {
      if (!isAssigned && this.sourceSQL.includes('FROM generations')) {
        isAssigned = true
        assignB()
      }
      return Reflect.apply(original, this, [machine])
    })
    const read = () => {
      const { current, generations } = site.lifeOf(mac)
      return [current, generations.length]
    }
    assert.deepEqual(read(), [1, 1])
    assert.deepEqual(read(), [2, 2])
    other.close()
    site.close(start)
  })

  test('gives a machine the system that it published, and makes nothing for one that only calls', async () => {
    const state = freshName()
    const first = open(state)
    await first.site.beginAttempt(mac, start, { byDefault: candidate('a') })
    const own = candidate('b', { published: 'digest' })
    assert.partialDeepStrictEqual(await first.site.assign(mac, own, start, 'machine'), {
      ...{ result: 'new', generation: { number: 2 } },
    })
    first.site.sign('02:00:00:00:00:99', { kind: 'alive' }, start)
    first.site.close(start)
    const second = open(state)
    const bound = await second.site.beginAttempt(mac, start, { byDefault: candidate('c') })
    assert.deepEqual([bound?.generation.published, bound?.generation.number], ['digest', 2])
    second.site.close(start)
    assert.deepEqual(livesIn(state), [mac])
  })

  test('shows a running machine the same images, whatever is chosen and when a server starts', async () => {
    const state = freshName()
    const first = open(state)
    await first.site.beginAttempt(mac, start, { byDefault: candidate('a') })
    await first.site.assign(mac, candidate('b'), start, 'person')
    first.site.close(start)
    const second = open(state)
    assert.deepEqual(second.site.currentAttempt(mac)?.attempt.keptImages, [])
    const next = await second.site.beginAttempt(mac, start, { byDefault: candidate('a') })
    assert.deepEqual([next?.generation.image, next?.attempt.keptImages], ['b', []])
    second.site.sign(mac, { kind: 'bless', bootId: 'x', toplevel: '/nix/store/b-system' }, start)
    for (let at = start; at <= start + 4 * minutes; at += 5000) second.site.tick(at)
    await second.site.beginAttempt(mac, start, { byDefault: candidate('a') })
    await second.site.assign(mac, candidate('c'), start, 'person')
    const third = await second.site.beginAttempt(mac, start, { byDefault: candidate('a') })
    assert.deepEqual([third?.generation.image, third?.attempt.keptImages], ['c', ['b']])
    await second.site.assign(mac, candidate('d'), start, 'person')
    second.site.close(start)
    const again = open(state)
    assert.deepEqual(again.site.currentAttempt(mac)?.attempt.keptImages, ['b'])
    again.site.close(start)
  })

  test('does not count the time in which the server was off, or the clock was set', async () => {
    const state = freshName()
    const first = open(state)
    await first.site.beginAttempt(mac, start, { byDefault: candidate('a') })
    first.site.close(start + 1000)
    const day = 24 * 60 * minutes
    const second = open(state, start + day)
    second.site.sign(mac, { kind: 'alive' }, start + day + 1)
    second.site.tick(start + 2 * day)
    second.site.tick(start)
    assert.deepEqual(second.told, [])
    assert.equal(second.site.currentAttempt(mac)?.generation.verdict, 'trial')
    second.site.close(start)
  })

  test('counts no wait for a server that was killed meanwhile, and all time after it', async () => {
    const state = freshName()
    const first = open(state)
    await first.site.beginAttempt(mac, start, { byDefault: candidate('a') })
    let at = start
    const passes = ({ site }: typeof first, time: number) => {
      for (const end = at + time; at < end; at += minutes / 2) site.tick(at)
      site.tick(at)
    }
    first.site.sign(mac, { kind: 'asks' }, start)
    passes(first, 2 * minutes)
    first.site.sign(mac, { kind: 'waits' }, at)
    passes(first, 30 * minutes)
    // The first one writes nothing any more.
    const second = open(state, at)
    passes(second, 30 * minutes)
    second.site.sign(mac, { kind: 'alive' }, at)
    passes(second, 7.5 * minutes)
    assert.deepEqual([first.told, second.told], [[], []])
    second.site.tick(at + 0.5 * minutes)
    assert.deepEqual(second.told, ['bad 1', 'stays 1'])
    // Also if no attempt runs.
    second.site.sign(mac, { kind: 'waits' }, at)
    passes(second, minutes)
    assert.notEqual(second.site.lifeOf(mac).waitsFrom, undefined)
    const third = open(state, at)
    assert.equal(third.site.lifeOf(mac).waitsFrom, undefined)
    for (const { site } of [third, second, first]) site.close(at)
  })

  test('keeps signs while another process holds the database, and writes them afterwards', async () => {
    const state = freshName()
    const { site, errors } = open(state)
    await site.beginAttempt(mac, start, { byDefault: candidate('a') })
    const holder = new DatabaseSync(siteFile(state))
    holder.exec('BEGIN IMMEDIATE')
    site.sign(mac, { kind: 'step', step: 'mount' }, start + 1)
    site.tick(start + 2)
    site.tick(start + 3)
    await waitUntil('this is told', () => errors.length > 0)
    site.tick(start + 4)
    await assert.rejects(
      site.beginAttempt(mac, start + 4, { byDefault: candidate('a') }),
      netimageError('in-use'),
    )
    assert.equal(site.currentAttempt(mac)?.attempt.number, 1)
    assert.equal(errors.length, 1)
    holder.exec('ROLLBACK')
    holder.close()
    site.tick(start + 2000)
    assert.equal(site.currentAttempt(mac)?.attempt.step, 'mount')
    site.close(start)
  })
})

suite('a site that cannot be written', () => {
  test('judges an attempt once it can be written, although its time was over before', async () => {
    const state = freshName()
    const { site, told, errors } = open(state)
    await site.beginAttempt(mac, start, { byDefault: candidate('a') })
    site.sign(mac, { kind: 'asks' }, start)
    site.tick(start)
    const other = new DatabaseSync(siteFile(state))
    other.exec(
      "CREATE TRIGGER refuse BEFORE INSERT ON machines BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    const tickUntil = (end: number) => {
      for (; at <= end; at += minutes / 2) site.tick(start + at)
    }
    let at = 0
    tickUntil(12 * minutes)
    assert.equal(errors.length, 1)
    other.exec('DROP TRIGGER refuse')
    other.close()
    tickUntil(15 * minutes)
    assert.deepEqual(told, ['bad 1', 'stays 1'])
    site.close(start)
  })
})

suite('the work of a site', () => {
  test('reads and writes the life of a machine once, however many signs it gives', async () => {
    const { site } = open(freshName())
    const machines = Array.from({ length: 20 }, (_, place) => `02:00:00:00:00:${place + 10}`)
    for (const machine of machines)
      await site.beginAttempt(machine, start, { byDefault: candidate('a') })
    using statements = countStatements()
    for (const machine of machines) {
      for (const step of ['kernel', 'initrd', 'mount'] as const) {
        site.sign(machine, { kind: 'step', step }, start + 1)
        site.sign(machine, { kind: 'trouble', trouble: step }, start + 1)
      }
    }
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(statements.runs(/^SELECT life FROM machines WHERE/), machines.length)
    assert.equal(statements.runs(/^INSERT OR REPLACE INTO machines/), machines.length)
    for (const machine of machines) {
      const attempt = site.currentAttempt(machine)?.attempt
      assert.deepEqual([attempt?.step, attempt?.trouble], ['mount', 'mount'])
    }
    site.close(start)
  })

  test('writes what makes a boot good before the machine gets its answer', async () => {
    const state = freshName()
    const { site } = open(state)
    await site.beginAttempt(mac, start, { byDefault: candidate('a') })
    site.sign(mac, { kind: 'step', step: 'init' }, start + 1)
    // As the next server reads it, if this one is killed now.
    const next = openSiteToRead(state)
    assert.equal(next && lastAttempt(next.lifeOf(mac))?.step, 'init')
    next?.close()
    site.close(start)
  })

  test('tries seldom to write while another process holds the database', async () => {
    const state = freshName()
    const { site, errors } = open(state)
    for (const machine of ['a', 'b', 'c'])
      await site.beginAttempt(machine, start, { byDefault: candidate('a') })
    const holder = new DatabaseSync(siteFile(state))
    holder.exec('BEGIN IMMEDIATE')
    site.sign('a', { kind: 'trouble', trouble: 'the first' }, start)
    await waitUntil('this is told', () => errors.length > 0)
    using statements = countStatements()
    for (let at = start; at < start + 30_000; at += 100) {
      for (const machine of ['a', 'b', 'c']) {
        site.sign(machine, { kind: 'trouble', trouble: `${at}` }, at)
      }
      site.tick(at)
      if (at % 1000 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    // After 1, 2, 4, 8 and 16 seconds.
    assert.ok(statements.runs(/^PRAGMA busy_timeout = 0/) <= 5)
    assert.equal(errors.length, 1)
    holder.exec('ROLLBACK')
    holder.close()
    site.tick(start + minutes)
    assert.equal(site.currentAttempt('c')?.attempt.trouble, `${start + 29_900}`)
    site.close(start)
  })

  test('reads of other machines at the start of an attempt only how many have started again', async () => {
    const { site } = open(freshName())
    const begin = (machine: number, at: number) =>
      site.beginAttempt(`machine-${machine}`, at, { byDefault: candidate('a') })
    const rowsOf = async (machine: number, at: number) => {
      using statements = countStatements()
      await begin(machine, at)
      return statements.rows()
    }
    for (let machine = 0; machine < 3; machine++) await begin(machine, start)
    const few = await rowsOf(0, start + 2 * minutes)
    for (let machine = 3; machine < 60; machine++) await begin(machine, start + 2 * minutes)
    assert.equal(await rowsOf(1, start + 4 * minutes), few)
    // In a power cut, each start that failed an attempt is excused once.
    const during: number[] = []
    for (let machine = 2; machine < 60; machine++)
      during.push(await rowsOf(machine, start + 6 * minutes))
    assert.ok(Math.max(...during.slice(-10)) <= 2 * few, `${few} ${during.join(' ')}`)
    const lives = Array.from({ length: 57 }, (_, place) => site.lifeOf(`machine-${place + 3}`))
    for (const { attempts } of lives) assert.equal(attempts[0]?.outcome, 'void')
    site.close(start)
  })
})

suite('a site that another process writes to', () => {
  async function openBusy(t: TestContext) {
    const state = freshName()
    const opened = open(state)
    await opened.site.beginAttempt(mac, start, { byDefault: candidate('a') })
    const other = new DatabaseSync(siteFile(state))
    other.exec('BEGIN IMMEDIATE')
    // Each look at the clock takes a millisecond, so that a busy computer changes nothing.
    let time = 0
    t.mock.method(performance, 'now', () => time++)
    const waits = t.mock.method(Atomics, 'wait', () => 'timed-out')
    t.after(() => other.close())
    const attempts = () => readAttempts(state)
    return { ...opened, other, attempts, blocked: () => waits.mock.callCount() }
  }

  test('lets this process go on, and begins the attempt once it can', async (t) => {
    const { site, errors, other, attempts, blocked } = await openBusy(t)
    const begun = site.beginAttempt(mac, start + minutes, { byDefault: candidate('a') })
    for (let turns = 0; turns < 10; turns++) await sleep(1)
    assert.equal(attempts().length, 1)
    other.exec('ROLLBACK')
    assert.equal((await begun)?.attempt.number, 2)
    assert.deepEqual([attempts().length, blocked(), errors], [2, 0, []])
    site.close(start)
  })

  test('keeps signs until it can write them, and waits only a moment for one that is said once', async (t) => {
    const { site, errors, other, attempts, blocked } = await openBusy(t)
    const stepOf = () => attempts()[0]?.step
    site.sign(mac, { kind: 'step', step: 'kernel' }, start)
    for (let turns = 0; turns < 10; turns++) await sleep(1)
    assert.deepEqual([stepOf(), blocked()], [undefined, 0])
    other.exec('ROLLBACK')
    await waitUntil('the sign is written', () => stepOf() === 'kernel')
    other.exec('BEGIN IMMEDIATE')
    for (let count = 0; count < 100; count++) {
      site.sign(mac, { kind: 'step', step: 'init' }, start)
    }
    assert.ok(blocked() > 0)
    other.exec('ROLLBACK')
    await waitUntil('the sign is written', () => stepOf() === 'init')
    assert.ok(blocked() < 15, `${blocked()} times`)
    assert.deepEqual(errors, [])
    site.close(start)
  })
})

test('a site that is closed while a change waits for another process tells no error', async (t) => {
  const state = freshName()
  const { site, errors } = open(state)
  const other = new DatabaseSync(siteFile(state))
  other.exec('BEGIN IMMEDIATE')
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const settled: unknown[] = []
  site.beginAttempt(mac, start).then(
    (begun) => settled.push(begun),
    (error: unknown) => settled.push(error),
  )
  other.exec('ROLLBACK')
  site.close(start)
  t.mock.timers.tick(1000)
  for (let turn = 0; turn < 10; turn++) await nextTurn()
  t.mock.timers.reset()
  assert.deepEqual([settled, errors], [[], []])
  other.close()
})

suite('the database of a site', () => {
  test('is looked at again and again, and never less often, while another process writes', (t) => {
    const state = freshName()
    const database = openSiteDatabase(state, minutes)
    const other = new DatabaseSync(siteFile(state))
    other.exec('BEGIN IMMEDIATE')
    const pauses: (number | undefined)[] = []
    t.mock.method(
      Atomics,
      'wait',
      (_array: Int32Array, _at: number, _value: number, ms?: number) => {
        pauses.push(ms)
        if (pauses.length === 1000) other.exec('ROLLBACK')
        return 'timed-out'
      },
    )
    database.change((writer) => writer.setUptime(1))
    assert.equal(pauses.length, 1000)
    assert.deepEqual([...new Set(pauses)], [1])
    other.close()
    database.close()
  })

  test('of a newer netimage is refused and left as it is', () => {
    const state = freshName()
    openSiteDatabase(state).close()
    const file = siteFile(state)
    const newer = new DatabaseSync(file)
    newer.exec('PRAGMA user_version = 9')
    newer.close()
    const before = readFileSync(file)
    const refused = netimageError('bad-state', { expected: 1, actual: 9 })
    assert.throws(() => openSiteDatabase(state), refused)
    assert.throws(() => openSiteToRead(state), refused)
    assert.deepEqual(readFileSync(file), before)
  })

  test('that is broken is an error, and is not replaced', () => {
    const state = freshName()
    mkdirSync(state)
    writeFileSync(
      siteFile(state),
      'no database at all, but long enough to be taken for one'.repeat(20),
    )
    assert.throws(() => openSiteDatabase(state), netimageError('bad-state'))
    assert.match(readFileSync(siteFile(state), 'utf8'), /^no database/)
  })

  test('of an earlier netimage, which knew fewer tables, can be read and stays as it is', async () => {
    const state = freshName()
    const { site } = open(state)
    await site.beginAttempt(mac, start, { byDefault: candidate('a') })
    site.close(start)
    const file = siteFile(state)
    const earlier = new DatabaseSync(file)
    for (const table of ['log', 'declarations', 'host_keys', 'restart_requests', 'readiness']) {
      earlier.exec(`DROP TABLE ${table}`)
    }
    earlier.close()
    const before = readFileSync(file)
    const reader = openSiteToRead(state) ?? assert.fail()
    assert.deepEqual(
      reader.lives(assert.fail).map(({ machine }) => machine),
      [mac],
    )
    assert.deepEqual(reader.log({}), { rows: [], last: 0 })
    assert.deepEqual([reader.declarations(assert.fail).size, reader.hostKeyOf(mac)], [0, undefined])
    assert.deepEqual(reader.rollouts().requests, new Map())
    reader.close()
    assert.deepEqual(readFileSync(file), before)
  })

  test('that is not there yet is no error for those who read', () => {
    assert.equal(openSiteToRead(freshName()), undefined)
  })
})
