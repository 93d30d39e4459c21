/** Leases on disk: what a machine was told is its own is there before it is told. */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

import { messageOf, NetimageError } from '../../errors.ts'
import { acquireLock, type Lock } from '../../lock.ts'
import { databaseError } from '../../database-error.ts'

export interface Lease {
  mac: string
  /** As a number. */
  address: number
  /** Milliseconds since 1970. One that has expired is remembered until its address is needed. */
  expires: number
}

export interface LeaseFile {
  read(): Lease[]
  /**
   * In place of what the machine had, and of whoever had the address.
   *
   * @throws `NetimageError` `file-system`
   */
  write(lease: Lease): void
  close(): void
}

const schema = `
  CREATE TABLE IF NOT EXISTS leases (
    address INTEGER PRIMARY KEY,
    mac TEXT NOT NULL UNIQUE,
    expires INTEGER NOT NULL
  ) STRICT;
`

/** @throws `NetimageError` `bad-state`, `in-use`, or of the disk */
export function openLeaseFile(file: string): LeaseFile {
  let lock: Lock | undefined
  try {
    mkdirSync(dirname(file), { recursive: true })
    // Two servers that do not see each other's leases would give one address to two machines.
    lock = acquireLock(`${file}.lock`, 'exclusive', 0)
    if (!lock) {
      throw new NetimageError('in-use', `another DHCP server that runs has the leases in ${file}`, {
        hint: 'Stop it, or name another directory with --state.',
      })
    }
    const held = lock
    const database = new DatabaseSync(file)
    database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; ${schema}`)
    const select = database.prepare('SELECT address, mac, expires FROM leases')
    const replace = database.prepare('INSERT OR REPLACE INTO leases VALUES (?, ?, ?)')
    return {
      read: () =>
        select.all().map((row) => ({
          mac: String(row['mac']),
          address: Number(row['address']),
          expires: Number(row['expires']),
        })),
      write({ mac, address, expires }) {
        try {
          replace.run(address, mac, expires)
        } catch (cause) {
          const problem = `could not keep a lease in ${file}: ${messageOf(cause)}`
          const hint = 'The machine is not given the address: make room on that disk.'
          throw new NetimageError('file-system', problem, { cause, hint })
        }
      },
      close() {
        database.close()
        held.release()
      },
    }
  } catch (error) {
    lock?.release()
    if (error instanceof NetimageError) throw error
    throw databaseError(
      `could not open the leases in ${file}`,
      error,
      'Move it away to begin anew; machines that run keep what they have until they ask again.',
    )
  }
}
