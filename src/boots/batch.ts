/** Writes to the database in one transaction for each turn of the event loop. */
import type { DatabaseSync } from 'node:sqlite'

import type { NetimageError } from '../errors.ts'

export interface Batch {
  /** To be called when there is something to write: it is written at the end of this turn. */
  isDue(): void
  /** Writes now, unless nothing is due. */
  flush: () => void
}

export interface BatchSettings {
  database: DatabaseSync
  /** Writes everything that waits. It is not tried again if this fails. */
  write: () => void
  toError: (cause: unknown) => NetimageError
  /** Called once for a row of failures, not for each batch while the disk is full. */
  onError: (error: NetimageError) => void
}

export function createBatch({ database, write, toError, onError }: BatchSettings): Batch {
  let isWaiting = false
  let isFailing = false

  function flush(): void {
    if (!isWaiting || !database.isOpen) return
    isWaiting = false
    try {
      database.exec('BEGIN')
      write()
      database.exec('COMMIT')
      isFailing = false
    } catch (error) {
      if (database.isTransaction) database.exec('ROLLBACK')
      if (!isFailing) onError(toError(error))
      isFailing = true
    }
  }

  return {
    isDue() {
      if (!isWaiting) setImmediate(flush)
      isWaiting = true
    },
    flush,
  }
}
