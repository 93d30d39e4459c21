/**
 * Leases on disk: a machine is told its address only when that is on the disk. That it keeps the
 * address for longer is written a moment later, for all machines at once.
 */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

import { messageOf, NetimageError } from '../../errors.ts'
import { tryLock, type Lock } from '../../lock.ts'
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
   * In place of what the machine had, and of whoever had the address. On the disk when it returns.
   *
   * @throws `NetimageError` `file-system`
   */
  write(lease: Lease): void
  /**
   * Another time for what is in the file already. On the disk about a second later: if this program
   * is killed before, the lease has its old time.
   */
  renew(lease: Lease): void
  close(): void
}

/** Of this program. A file of another is left as it is. https://sqlite.org/pragma.html#pragma_user_version */
const format = 1
/** Milliseconds. */
const renewAfter = 1000

const schema = `
  CREATE TABLE IF NOT EXISTS leases (
    address INTEGER PRIMARY KEY,
    mac TEXT NOT NULL UNIQUE,
    expires INTEGER NOT NULL
  ) STRICT;
`

/**
 * @param onError told of renewals that cannot be written; they are tried again
 * @throws `NetimageError` `bad-state`, `in-use`, or of the disk
 */
export function openLeaseFile(file: string, onError: (error: NetimageError) => void): LeaseFile {
  let lock: Lock | undefined
  try {
    mkdirSync(dirname(file), { recursive: true })
    // Two servers that do not see each other's leases would give one address to two machines.
    lock = tryLock(`${file}.lock`, 'exclusive')
    if (!lock) {
      throw new NetimageError('in-use', `another DHCP server that runs has the leases in ${file}`, {
        hint: 'Stop it, or name another directory with --state.',
      })
    }
    return useLeaseFile(file, openDatabase(file), lock, onError)
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

/** @throws `NetimageError` `bad-state` for the file of a newer netimage, which is not changed */
function openDatabase(file: string): DatabaseSync {
  const database = new DatabaseSync(file)
  try {
    const found = Number(database.prepare('PRAGMA user_version').get()?.['user_version'])
    if (found > format) {
      const problem = `the leases in ${file} are of format ${found}, and this netimage knows ${format}`
      throw new NetimageError('bad-state', problem, {
        hint: 'Use the newer netimage that made the file; or move it away to begin anew.',
      })
    }
    database.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      ${schema}
      PRAGMA user_version = ${format};
    `)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

function useLeaseFile(
  file: string,
  database: DatabaseSync,
  lock: Lock,
  onError: (error: NetimageError) => void,
): LeaseFile {
  const select = database.prepare('SELECT address, mac, expires FROM leases')
  const replace = database.prepare('INSERT OR REPLACE INTO leases VALUES (?, ?, ?)')
  const renewals = new Map<string, Lease>()
  let timer: NodeJS.Timeout | undefined

  /** All renewals, so that none comes after what takes its address away, and then `last`. */
  function writeAll(last: readonly Lease[]): void {
    try {
      database.exec('BEGIN IMMEDIATE')
      try {
        for (const { address, mac, expires } of [...renewals.values(), ...last]) {
          replace.run(address, mac, expires)
        }
        database.exec('COMMIT')
      } catch (error) {
        if (database.isTransaction) database.exec('ROLLBACK')
        throw error
      }
    } catch (cause) {
      const problem = `could not keep a lease in ${file}: ${messageOf(cause)}`
      const hint = 'The machine is not given the address: make room on that disk.'
      throw new NetimageError('file-system', problem, { cause, hint })
    }
    renewals.clear()
    clearTimeout(timer)
    timer = undefined
  }

  function writeRenewals(): void {
    timer = undefined
    try {
      writeAll([])
    } catch (error) {
      if (!(error instanceof NetimageError)) throw error
      onError(error)
      timer = setTimeout(writeRenewals, 10 * renewAfter)
    }
  }

  return {
    read: () =>
      select.all().map((row) => ({
        mac: String(row['mac']),
        address: Number(row['address']),
        expires: Number(row['expires']),
      })),
    write: (lease) => writeAll([lease]),
    renew(lease) {
      renewals.set(lease.mac, lease)
      timer ??= setTimeout(writeRenewals, renewAfter)
    },
    close() {
      clearTimeout(timer)
      if (renewals.size > 0) writeRenewals()
      clearTimeout(timer)
      database.close()
      lock.release()
    },
  }
}
