import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { DatabaseSync } from 'node:sqlite'
import { NetimageError } from '../../../src/errors.ts'
import { openLeaseFile, type Lease } from '../../../src/protocols/dhcp/lease-file.ts'
import { netimageError } from '../../support/errors.ts'

function withFile(action: (file: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-leases-'))
  try {
    action(join(directory, 'state', 'leases.sqlite'))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const lease = (mac: string, address: number): Lease => ({ mac, address, expires: 5 })

suite('leases on disk', () => {
  test('are there when the file is opened again: one for a machine, one for an address', () =>
    withFile((file) => {
      const first = openLeaseFile(file)
      for (const [mac, address] of [
        ['a', 1],
        ['b', 2],
        ['a', 3],
        ['c', 2],
      ] as const) {
        first.write(lease(mac, address))
      }
      first.close()
      const second = openLeaseFile(file)
      assert.deepEqual(second.read(), [lease('c', 2), lease('a', 3)])
      second.close()
    }))

  test('belong to one server at a time', () =>
    withFile((file) => {
      const first = openLeaseFile(file)
      assert.throws(() => openLeaseFile(file), netimageError('in-use', /another DHCP server/))
      first.close()
      openLeaseFile(file).close()
    }))

  test('that cannot be kept are an error of the disk, and no defect', () =>
    withFile((file) => {
      const leases = openLeaseFile(file)
      const other = new DatabaseSync(file)
      other.exec('DROP TABLE leases')
      other.close()
      assert.throws(
        () => leases.write(lease('a', 1)),
        netimageError('file-system', /could not keep a lease in .*leases\.sqlite/),
      )
      leases.close()
    }))

  test('that are something else are an error that says what to do', () =>
    withFile((file) => {
      openLeaseFile(file).close()
      writeFileSync(file, 'x'.repeat(5000))
      assert.throws(
        () => openLeaseFile(file),
        (error) =>
          error instanceof NetimageError &&
          error.code === 'bad-state' &&
          /Move it away/.test(error.hint ?? ''),
      )
    }))
})
