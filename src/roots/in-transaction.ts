import type { LayerDatabase } from './database.ts'
import type { Steps } from './steps.ts'

/** Does steps in one or more transactions. */
export type InTransactions = <T>(database: LayerDatabase, steps: Steps<T>) => Steps<T>

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

/** SQLite commits the changes of so many steps in some milliseconds. */
const stepsOfTransaction = 256

/**
 * The steps are many short transactions, because SQLite commits each in one go. For a database that nobody uses
 * unless all steps are done.
 */
export function* inShortTransactions<T>(database: LayerDatabase, steps: Steps<T>): Steps<T> {
  database.leaveUnsynced()
  database.begin()
  try {
    for (let count = 1; ; count++) {
      const step = steps.next()
      if (step.done) {
        database.commit()
        return step.value
      }
      yield step.value
      if (count % stepsOfTransaction > 0) continue
      database.commit()
      yield
      database.begin()
    }
  } finally {
    steps[Symbol.dispose]()
    database.rollback()
  }
}
