/**
 * Leases on disk. A new lease is on the disk before the machine is told its address. Renewals are
 * written about a second later, for all machines at once.
 */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'

import { databaseError, isDatabaseFull, withQuota } from '../../database-error.ts'
import { explained, messageOf, NetimageError } from '../../errors.ts'
import { tryLock, type Lock } from '../../lock.ts'
import { needRoomForIndex, readWithoutRoom } from '../../state-database.ts'

export interface Lease {
  mac: string
  /** As a number. */
  address: number
  /** Milliseconds since 1970. An expired lease is kept until its address is needed. */
  expires: number
}

export interface LeaseFile {
  /** The leases that were in the file when it was opened. */
  read(): readonly Lease[]
  /**
   * Replaces the lease that the machine had, and the lease that any other machine had on the
   * address. The lease is on the disk when this returns.
   *
   * @throws `NetimageError` `disk-full`, `file-system`
   */
  write(lease: Lease): void
  /**
   * Changes the time of a lease that is in the file already. The change is on the disk about a
   * second later: if this program is killed before, the lease keeps its old time.
   */
  renew(lease: Lease): void
  close(): void
}

/** The version of the schema. https://sqlite.org/pragma.html#pragma_user_version */
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
 * On a full disk, the leases that are in the file can be read. Nothing is written until there is room.
 *
 * @param onError called once for a row of renewals that cannot be written; they are tried again. Also
 *   called if the disk is full
 * @throws `NetimageError` `bad-state`, `in-use`, or a code for a failing disk
 */
export function openLeaseFile(file: string, onError: (error: NetimageError) => void): LeaseFile {
  let lock: Lock | undefined
  try {
    mkdirSync(dirname(file), { recursive: true })
    // Two servers that do not see each other's leases would give one address to two machines.
    lock = tryLock(`${file}.lock`, 'exclusive')
    if (!lock) {
      throw new NetimageError('in-use', `another running DHCP server uses the leases in ${file}`, {
        details: { file },
        hint: 'Stop the other server, or name another directory with --state.',
      })
    }
    return useLeaseFile(file, lock, onError)
  } catch (error) {
    lock?.release()
    throw openingError(file, error)
  }
}

function openingError(file: string, error: unknown): NetimageError {
  if (error instanceof NetimageError) return error
  return databaseError(`could not open the leases in ${file}`, error, {
    details: { file },
    hint: 'Move the file away to start without leases. Running machines keep their addresses until they ask again.',
  })
}

const fullHint =
  'Make room on that disk, or raise the quota of the server’s user. Until then, machines get only the addresses that they had before.'

/**
 * @throws `NetimageError` `bad-state` if a newer netimage made the file; the file is not changed
 */
function openDatabase(file: string): DatabaseSync {
  needRoomForIndex(file)
  const database = new DatabaseSync(file)
  try {
    const found = Number(database.prepare('PRAGMA user_version').get()?.['user_version'])
    if (found > format) {
      const problem = `the leases in ${file} have format ${found}, but this netimage reads only ${format}`
      throw new NetimageError('bad-state', problem, {
        details: { file, expected: format, actual: found },
        hint: 'Use the newer netimage that made the file, or move the file away to start without leases.',
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

function readLeases(database: DatabaseSync): Lease[] {
  const rows = database.prepare('SELECT address, mac, expires FROM leases').all()
  return rows.map(({ mac, address, expires }) => ({
    ...{ mac: String(mac), address: Number(address), expires: Number(expires) },
  }))
}

function useLeaseFile(
  file: string,
  lock: Lock,
  onError: (error: NetimageError) => void,
): LeaseFile {
  /** Undefined while the disk is too full to open it. */
  let database: DatabaseSync | undefined
  let replace: StatementSync | undefined
  /** What was in the file at the start. */
  let found: Lease[] | undefined
  /** Whether it was told that nothing can be written. */
  let isTold = false
  const renewals = new Map<string, Lease>()
  let timer: NodeJS.Timeout | undefined

  function tell(error: NetimageError): void {
    if (!isTold) onError(error)
    isTold = true
  }

  try {
    database = openDatabase(file)
    found = readLeases(database)
  } catch (thrown) {
    database?.close()
    const error = withQuota(thrown, file)
    if (!isDatabaseFull(error)) throw error
    found = readWithoutRoom(file, readLeases)
    const known = openingError(file, error)
    if (!found) throw known
    tell(explained(known, known.message, {}, fullHint))
  }

  /** Writes all waiting renewals before `last`: a renewal must not undo a later lease. */
  function writeAll(last: readonly Lease[]): void {
    try {
      database ??= openDatabase(file)
      replace ??= database.prepare('INSERT OR REPLACE INTO leases VALUES (?, ?, ?)')
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
    } catch (error) {
      const cause = withQuota(error, file)
      const problem = `could not write a lease to ${file}: ${messageOf(cause)}`
      const code = isDatabaseFull(cause) ? 'disk-full' : 'file-system'
      throw new NetimageError(code, problem, { cause, hint: fullHint })
    }
    isTold = false
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
      tell(error)
      timer = setTimeout(writeRenewals, 10 * renewAfter)
    }
  }

  return {
    read: () => found,
    write: (lease) => writeAll([lease]),
    renew(lease) {
      renewals.set(lease.mac, lease)
      timer ??= setTimeout(writeRenewals, renewAfter)
    },
    close() {
      clearTimeout(timer)
      if (renewals.size > 0) writeRenewals()
      clearTimeout(timer)
      database?.close()
      lock.release()
    },
  }
}
