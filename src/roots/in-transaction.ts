import type { LayerDatabase } from './database.ts'
import type { Steps } from './steps.ts'

/** All steps are one transaction. Undoes all of it after an error, and if the steps are ended before. */
export function* inTransaction<T>(database: LayerDatabase, steps: Steps<T>): Steps<T> {
  let isCommitted = false
  database.begin()
  try {
    const result = yield* steps
    database.commit()
    isCommitted = true
    return result
  } finally {
    if (!isCommitted) database.rollback()
  }
}
