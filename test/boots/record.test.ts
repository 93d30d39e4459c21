import assert from 'node:assert/strict'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { suite, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Boot } from '../../src/boots/follow.ts'
import { recordFile } from '../../src/boots/database.ts'
import { readBoots, readEvents } from '../../src/boots/read.ts'
import type { ServeEvent } from '../../src/protocols/event.ts'
import type { NetimageError } from '../../src/errors.ts'
import { assertError, netimageError } from '../support/errors.ts'
import { countStatements } from '../site/support/count-statements.ts'
import { failureOf, netimage } from '../support/netimage.ts'
import { openBootRecord } from './support/record.ts'

async function withState(action: (state: string) => void | Promise<void>): Promise<void> {
  const state = mkdtempSync(join(tmpdir(), 'netimage-boots-'))
  try {
    await action(state)
  } finally {
    rmSync(state, { recursive: true })
  }
}

function boot(machine: string, started: number): Boot {
  return { machine, started, step: 'dhcp', steps: { dhcp: started }, lastSign: started, bytes: 0 }
}

function open(state: string) {
  return openBootRecord(state, assert.ifError)
}

const event: ServeEvent = { kind: 'dhcp', step: 'discover', proxy: true, mac: 'a' }

suite('the record of boots', () => {
  test('is empty if no server has run', () =>
    withState((state) => assert.deepEqual(readBoots(state, undefined, 10), [])))

  test('writes a boot once for all events of a turn, also if each comes with a copy of the boot', () =>
    withState((state) => {
      const record = open(state)
      using statements = countStatements()
      for (let at = 1000; at < 1010; at++) {
        const copy: Boot = { ...boot('a', 1000), lastSign: at }
        record.add(copy, event, at, true)
      }
      record.flush()
      assert.equal(statements.runs(/^INSERT INTO boots /), 1)
      const [recorded] = readBoots(state, undefined, 10)
      assert.equal(recorded?.lastSign, 1009)
      assert.equal(readEvents(state, recorded).length, 10)
      record.close()
    }))

  test('gives back the added boots, the newest first, also while the server runs', () =>
    withState(async (state) => {
      const record = open(state)
      const first = { ...boot('a', 1000), address: '10.0.0.1', trouble: 'x' }
      record.add(first, event, 1000, true)
      record.add(boot('b', 2000), event, 2000, true)
      record.add(
        { ...first, step: 'loader', steps: { dhcp: 1000, loader: 3000 } },
        event,
        3000,
        true,
      )
      await nextTurn()
      const found = readBoots(state, undefined, 10)
      assert.deepEqual(found, [
        boot('b', 2000),
        { ...first, step: 'loader', steps: { dhcp: 1000, loader: 3000 } },
      ])
      assert.deepEqual(
        readBoots(state, '10.0.0.1', 10).map(({ machine }) => machine),
        ['a'],
      )
      const [a] = readBoots(state, 'a', 1)
      assert.ok(a)
      assert.deepEqual(readEvents(state, a), [
        { at: 1000, event },
        { at: 3000, event },
      ])
      record.close()
    }))

  test('can be read by a user who may not write there, after the server has ended', async () => {
    const state = mkdtempSync(join(tmpdir(), 'netimage-boots-'))
    try {
      chmodSync(state, 0o755)
      const record = open(state)
      record.add({ ...boot('a', 1000), steps: {} }, event, 1000, true)
      record.close()
      const isRoot = process.geteuid?.() === 0
      const nobody = isRoot ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : []
      const run = await netimage(['boots', '--state', state], { through: nobody })
      assert.equal(run.status, 0, run.stderr)
      // The boot has reached no step yet; the time is local time.
      assert.match(run.stdout, /^a {2}\d{4}-\d\d-\d\d \d\d:\d\d:01 {2}- {2}/)
    } finally {
      rmSync(state, { recursive: true })
    }
  })

  test('is not taken for empty if the user may not look into the state directory', async () => {
    const state = mkdtempSync(join(tmpdir(), 'netimage-boots-'))
    try {
      mkdirSync(join(state, 'layers'))
      open(state).close()
      const isRoot = process.geteuid?.() === 0
      if (!isRoot) chmodSync(state, 0o000)
      const nobody = isRoot ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : []
      for (const command of [['boots'], ['layers', 'list']]) {
        const args = [...command, '--state', state, '--json']
        const failure = failureOf(await netimage(args, { through: nobody }))
        assert.equal(failure.code, 'file-system')
        assert.match(failure.hint ?? '', /as the user of the server/)
      }
    } finally {
      chmodSync(state, 0o700)
      rmSync(state, { recursive: true })
    }
  })

  test('knows which boot came last if the clock went back, as without a battery', () =>
    withState((state) => {
      const record = open(state)
      for (const started of [2000, 1000]) record.add(boot('a', started), event, started, true)
      record.close()
      assert.deepEqual(
        readBoots(state, 'a', 10).map(({ started }) => started),
        [1000, 2000],
      )
    }))

  test('keeps no more than 2000 events of a boot', () =>
    withState((state) => {
      const record = open(state)
      for (let index = 0; index < 2500; index++) record.add(boot('a', 1), event, index, true)
      record.close()
      assert.equal(readEvents(state, boot('a', 1)).length, 2000)
      const again = open(state)
      again.add(boot('a', 1), event, 2501, true)
      again.close()
      assert.equal(readEvents(state, boot('a', 1)).length, 2000)
    }))

  test('that cannot be written reports this once, and goes on when it can be written again', () =>
    withState(async (state) => {
      const errors: string[] = []
      const record = openBootRecord(state, ({ message }) => void errors.push(message))
      const other = new DatabaseSync(recordFile(state))
      other.exec('ALTER TABLE events RENAME TO gone')
      for (const at of [1, 2]) {
        record.add(boot('a', 1), event, at, true)
        await nextTurn()
      }
      assert.equal(errors.length, 1, errors.join('\n'))
      assert.match(errors[0] ?? '', /^could not record a boot in .*boots\.sqlite: /)
      other.exec('ALTER TABLE gone RENAME TO events')
      other.close()
      record.add(boot('a', 1), event, 3, true)
      record.close()
      assert.deepEqual(
        readEvents(state, boot('a', 1)).map(({ at }) => at),
        [3],
      )
      assert.equal(errors.length, 1)
    }))

  test('keeps all machines and only few strangers, even if many strangers ask', () =>
    withState((state) => {
      const record = open(state)
      record.add(boot('a', 1), event, 1, true)
      for (let index = 0; index < 1000; index++) {
        record.add(boot(`stranger ${index}`, 2), event, 2, false)
      }
      record.add(boot('b', 3), event, 3, true)
      record.close()
      const machines = readBoots(state, undefined, 2000).map(({ machine }) => machine)
      assert.ok(machines.length <= 202, `${machines.length} boots`)
      assert.deepEqual([machines[0], machines[1], machines.at(-1)], ['b', 'stranger 999', 'a'])
    }))

  test('of a newer version is not read, not written and not changed, and the error names it', () =>
    withState((state) => {
      open(state).close()
      const other = new DatabaseSync(recordFile(state))
      other.exec('PRAGMA user_version = 2; DROP TABLE events')
      other.close()
      const before = readFileSync(recordFile(state))
      const details = { file: recordFile(state), expected: 1, actual: 2 }
      const newer = netimageError('bad-state', details)
      assert.throws(() => open(state), newer)
      assert.throws(() => readBoots(state, undefined, 1), newer)
      assert.ok(readFileSync(recordFile(state)).equals(before))
    }))

  test('from before formats had numbers is still used', () =>
    withState((state) => {
      const old = new DatabaseSync(recordFile(state))
      old.exec(`
        CREATE TABLE boots (id INTEGER PRIMARY KEY, machine TEXT NOT NULL, started INTEGER NOT NULL,
          boot TEXT NOT NULL, UNIQUE (machine, started)) STRICT;
        CREATE TABLE events (boot INTEGER NOT NULL REFERENCES boots ON DELETE CASCADE,
          at INTEGER NOT NULL, event TEXT NOT NULL) STRICT;
      `)
      const insert = old.prepare('INSERT INTO boots (machine, started, boot) VALUES (?, ?, ?)')
      insert.run('a', 1, JSON.stringify(boot('a', 1)))
      old.close()
      assert.equal(readBoots(state, 'a', 1).length, 1)
      const record = open(state)
      record.add(boot('b', 2), event, 2, true)
      record.close()
      assert.deepEqual(
        readBoots(state, undefined, 10).map(({ machine }) => machine),
        ['b', 'a'],
      )
    }))

  test('shows the boots that can be read, even if others have unknown steps or texts', async () => {
    await withState(async (state) => {
      const record = open(state)
      record.add(boot('a', 1), event, 1, true)
      record.add(boot('b', 2), event, 2, true)
      record.add(boot('c', 3), event, 3, true)
      record.close()
      const other = new DatabaseSync(recordFile(state))
      const change = other.prepare('UPDATE boots SET boot = ? WHERE machine = ?')
      const steps = { dhcp: 2, loader: 3, verdict: 4 }
      change.run(JSON.stringify({ ...boot('b', 2), step: 'verdict', steps }), 'b')
      change.run('no JSON', 'c')
      other.close()
      const found = readBoots(state, undefined, 10)
      assert.deepEqual(found, [
        { ...boot('b', 2), step: 'loader', steps: { dhcp: 2, loader: 3 } },
        boot('a', 1),
      ])
      const run = await netimage(['boots', '10.0.0.9', '--state', state])
      assert.equal(run.status, 0, run.stderr)
      const all = await netimage(['boots', '--state', state])
      assert.match(all.stdout, /^could not read 1 boot/m)
    })
  })

  test('that is not a database gives an error that names the file, if it is read', () =>
    withState((state) => {
      writeFileSync(recordFile(state), notADatabase)
      assert.throws(() => readBoots(state, undefined, 1), /boots\.sqlite/)
    }))

  const damages: Record<string, (file: string) => void> = {
    'is not a database': (file) => writeFileSync(file, notADatabase),
    'was cut off': (file) => truncateSync(file, statSync(file).size - 8192),
    'has other tables': (file) => {
      const other = new DatabaseSync(file)
      other.exec('DROP TABLE events; DROP TABLE boots; CREATE TABLE boots (x)')
      other.close()
    },
  }
  for (const [what, damage] of Object.entries(damages)) {
    test(`that ${what} is moved aside and told when a server starts`, () =>
      withState((state) => {
        const record = open(state)
        for (let at = 0; at < 500; at++) record.add(boot('a', at), event, at, true)
        record.close()
        damage(recordFile(state))
        const errors: NetimageError[] = []
        const again = openBootRecord(state, (error) => void errors.push(error))
        assert.equal(errors.length, 1)
        assertError(errors[0], 'bad-state', { file: recordFile(state) })
        assert.ok(existsSync(`${recordFile(state)}.broken`))
        again.add(boot('b', 1), event, 1, true)
        again.close()
        assert.deepEqual(
          readBoots(state, undefined, 10).map(({ machine }) => machine),
          ['b'],
        )
        open(state).close()
      }))
  }
})

const notADatabase = 'no database, but long enough to be taken for one\n'.repeat(99)
