import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mock, suite, test } from 'node:test'
import { DatabaseSync } from 'node:sqlite'
import { promisify } from 'node:util'
import type { NetimageError } from '../../../src/errors.ts'
import { openLeaseFile, type Lease } from '../../../src/protocols/dhcp/lease-file.ts'
import { assertError, netimageError } from '../../support/errors.ts'
import { mounted } from '../../support/namespace.ts'

const run = promisify(execFile)

function withFile(action: (file: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-leases-'))
  try {
    action(join(directory, 'state', 'leases.sqlite'))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const errors: NetimageError[] = []
const open = (file: string) => openLeaseFile(file, (error) => errors.push(error))
const lease = (mac: string, address: number): Lease => ({ mac, address, expires: 5 })

suite('leases on disk', () => {
  test('are kept after the file is closed: one for each machine, one for each address', () =>
    withFile((file) => {
      const first = open(file)
      for (const [mac, address] of [
        ['a', 1],
        ['b', 2],
        ['a', 3],
        ['c', 2],
      ] as const) {
        first.write(lease(mac, address))
      }
      first.close()
      const second = open(file)
      assert.deepEqual(second.read(), [lease('c', 2), lease('a', 3)])
      second.close()
    }))

  test('can be used by only one server at a time', () =>
    withFile((file) => {
      const first = open(file)
      assert.throws(() => open(file), netimageError('in-use', { file }))
      first.close()
      open(file).close()
    }))

  test('that cannot be written cause the error file-system, not internal', () =>
    withFile((file) => {
      const leases = open(file)
      const other = new DatabaseSync(file)
      other.exec('DROP TABLE leases')
      other.close()
      assert.throws(
        () => leases.write(lease('a', 1)),
        netimageError('file-system', /could not write a lease to .*leases\.sqlite/),
      )
      leases.close()
    }))

  test('in a broken file cause an error with a hint', () =>
    withFile((file) => {
      open(file).close()
      writeFileSync(file, 'x'.repeat(5000))
      assert.throws(
        () => open(file),
        (error) => {
          assertError(error, 'bad-state', { file })
          assert.match(error.hint ?? '', /away/)
          return true
        },
      )
    }))

  test('are renewed on disk a second later, or at the end, and never after a new lease', () =>
    withFile((file) => {
      mock.timers.enable({ apis: ['setTimeout'] })
      try {
        const leases = open(file)
        const onDisk = () => {
          using reader = new DatabaseSync(file, { readOnly: true })
          const rows = reader.prepare('SELECT mac, address, expires FROM leases').all()
          return rows.map((row) =>
            [row['mac'], row['address'], row['expires']].map(String).join(' '),
          )
        }
        leases.write(lease('a', 1))
        leases.renew({ ...lease('a', 1), expires: 7 })
        leases.renew({ ...lease('a', 1), expires: 8 })
        assert.deepEqual(onDisk(), ['a 1 5'])
        mock.timers.tick(1000)
        assert.deepEqual(onDisk(), ['a 1 8'])
        leases.renew({ ...lease('a', 1), expires: 9 })
        leases.write(lease('b', 1))
        mock.timers.tick(1000)
        assert.deepEqual(onDisk(), ['b 1 5'])
        leases.renew({ ...lease('b', 1), expires: 6 })
        leases.close()
        assert.deepEqual(onDisk(), ['b 1 6'])
        assert.deepEqual(errors, [])
      } finally {
        mock.timers.reset()
      }
    }))

  test('of a newer netimage are refused by their format, and are not changed', () =>
    withFile((file) => {
      open(file).close()
      const newer = new DatabaseSync(file)
      newer.exec('PRAGMA journal_mode = DELETE; DROP TABLE leases; PRAGMA user_version = 2')
      newer.close()
      const before = readFileSync(file)
      assert.throws(() => open(file), netimageError('bad-state', { file, expected: 1, actual: 2 }))
      assert.ok(readFileSync(file).equals(before))
    }))

  test('without a format number are read as format 1', () =>
    withFile((file) => {
      const first = open(file)
      first.write(lease('a', 1))
      first.close()
      const older = new DatabaseSync(file)
      older.exec('PRAGMA user_version = 0')
      older.close()
      const second = open(file)
      assert.deepEqual(second.read(), [lease('a', 1)])
      second.close()
    }))

  for (const [way, what] of [
    ['end', 'are given to their machines on a full disk, and written once there is room'],
    ['kill', 'are so, too, if the server before was killed'],
    ['new', 'cannot be kept if the disk is full and there are none yet'],
  ] as const) {
    test(what, async (context) => {
      const disk = mkdtempSync(join(tmpdir(), 'netimage-leases-'))
      context.after(() => rmSync(disk, { recursive: true }))
      const [command = '', ...args] = mounted('mount -t tmpfs -o size=4m disk "$1"', disk)
      const program = join(import.meta.dirname, '../support/full-leases-program.ts')
      const { stdout } = await run(command, [...args, process.execPath, program, disk, way])
      assert.equal(stdout, 'as expected\n')
    })
  }
})
