/**
 * Transactions of a layer: all operations of one turn of the event loop share one, and one wait for
 * the disk.
 */
import { errnoOf } from '../../errors.ts'
import type { LayerDatabase } from './database.ts'
import { asFailure } from './failure.ts'

export interface Transactions {
  /** Runs an operation. Where the database fails, nothing since the last commit was done. */
  run<T>(action: () => T): T
  /** Resolves once all that was run before is on the disk. */
  stable(): Promise<void>
  /** Nothing may be run any more. */
  close(): Promise<void>
}

export interface TransactionHooks {
  database: LayerDatabase
  /** Writes what the database does not have yet. */
  beforeCommit: () => void
  /** Waits for what the database refers to. @returns what is done once that is on the disk */
  beforeSync: () => Promise<() => void>
  /** All since the last commit was rolled back. */
  undone: () => void
}

export function createTransactions({
  database,
  beforeCommit,
  beforeSync,
  undone,
}: TransactionHooks): Transactions {
  let isOpen = false
  let isScheduled = false
  let needsSync = false
  let syncing: Promise<void> | undefined
  let waiting: PromiseWithResolvers<void>[] = []

  function undo(error: unknown): void {
    isOpen = false
    try {
      database.rollback()
    } catch {
      // SQLite has rolled back itself, as it does where the disk is full.
    }
    undone()
    const failed = asFailure(error)
    for (const waiter of waiting.splice(0)) waiter.reject(failed)
  }

  function commit(): void {
    isScheduled = false
    if (!isOpen) return
    try {
      beforeCommit()
      database.commit()
      isOpen = false
      needsSync = true
    } catch (error) {
      undo(error)
    }
  }

  async function sync(): Promise<void> {
    // Later operations of this turn take part.
    await new Promise((resolve) => setImmediate(resolve))
    commit()
    const waiters = waiting
    waiting = []
    needsSync = false
    try {
      const afterwards = await beforeSync()
      await database.sync()
      afterwards()
      for (const waiter of waiters) waiter.resolve()
    } catch (error) {
      needsSync = true
      for (const waiter of waiters) waiter.reject(asFailure(error))
    }
    syncing = waiting.length > 0 ? sync() : undefined
  }

  return {
    run(action) {
      try {
        if (!isOpen) {
          database.begin()
          isOpen = true
        }
        if (!isScheduled) {
          isScheduled = true
          setImmediate(commit)
        }
        return action()
      } catch (error) {
        if (errnoOf(error) === 'ERR_SQLITE_ERROR') undo(error)
        throw asFailure(error)
      }
    },
    stable() {
      if (!isOpen && !needsSync && !syncing) return Promise.resolve()
      const waiter = Promise.withResolvers<void>()
      waiting.push(waiter)
      syncing ??= sync()
      return waiter.promise
    },
    async close() {
      await this.stable()
      commit()
    },
  }
}
