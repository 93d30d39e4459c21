/**
 * Transactions of a layer: each operation is one, committed before it returns. Waiting for the disk
 * is shared by all that ask for it meanwhile.
 */
import { setTimeout as sleep } from 'node:timers/promises'

import type { LayerDatabase } from './database.ts'
import { asFailure, SyncFailure } from './failure.ts'
import { FileSystemError } from '../protocols/nfs/file-system.ts'

/** When no descriptors are left, and others may give some back. Milliseconds. */
const retryMs = 100

export interface Transactions {
  /** Does all of it, or nothing. */
  run<T>(action: () => T): T
  /**
   * All that is run within is one transaction; an error ends it, and undoes all of it. Where that is
   * a full disk, and what is run gives room, it is run a second time.
   */
  together<T>(action: () => T): T
  /** What is run gives room on the disk: it may have what is kept for that. */
  givesRoom(): void
  /** Resolves once all that was run before is on the disk. */
  stable(): Promise<void>
  /**
   * No more is changed, for the disk failed to write something: the kernel may forget what it could
   * not write, so that a second try would prove nothing.
   */
  fail(error: SyncFailure): void
}

export interface TransactionHooks {
  database: LayerDatabase
  /** Writes what the database does not have yet. */
  beforeCommit: () => void
  afterCommit: () => void
  /** All since the last commit was rolled back. */
  undone: () => void
  /** @returns whether there is more room on the disk than before */
  giveUpReserve: () => boolean
  /**
   * Waits for what the database refers to.
   *
   * @returns what is done once that is on the disk
   * @throws `EAGAIN` if it is to be tried again
   */
  beforeSync: () => Promise<() => Promise<void>>
  /** The layer failed before, in this process. */
  failed: SyncFailure | undefined
  /** The layer fails now. */
  onFailure: (error: SyncFailure) => void
}

export function createTransactions(hooks: TransactionHooks): Transactions {
  const { database, beforeCommit, afterCommit, undone, giveUpReserve, beforeSync } = hooks
  let depth = 0
  let isOpen = false
  let isGivingRoom = false
  // A killed server may have left what it committed in memory only.
  let needsSync = true
  let isSyncing = false
  let waiting: PromiseWithResolvers<void>[] = []
  let broken = hooks.failed

  function undo(): void {
    if (!isOpen) return
    isOpen = false
    try {
      database.rollback()
    } catch {
      // SQLite has rolled back itself, as it does where the disk is full.
    }
    undone()
  }

  function commit(): void {
    if (!isOpen) return
    try {
      beforeCommit()
      database.commit()
    } catch (error) {
      undo()
      throw asFailure(error)
    }
    isOpen = false
    needsSync = true
    afterCommit()
  }

  function together<T>(action: () => T): T {
    if (depth > 0) return attempt(action)
    isGivingRoom = false
    try {
      return attempt(action)
    } catch (error) {
      if (!isGivingRoom || !isFull(error) || !giveUpReserve()) throw error
      return attempt(action)
    }
  }

  function attempt<T>(action: () => T): T {
    depth++
    let result: T
    try {
      result = action()
    } catch (error) {
      undo()
      throw error
    } finally {
      depth--
    }
    if (depth === 0) commit()
    return result
  }

  async function sync(): Promise<void> {
    isSyncing = true
    while (waiting.length > 0) {
      // What comes later in this turn takes part.
      await new Promise((resolve) => setImmediate(resolve))
      const waiters = waiting
      waiting = []
      needsSync = false
      try {
        const afterwards = await beforeSync()
        await database.sync()
        await afterwards()
        for (const waiter of waiters) waiter.resolve()
      } catch (error) {
        needsSync = true
        const failure = asFailure(error)
        if (failure.code === 'EAGAIN') {
          // What they wait for is done, and nothing of it is lost: they must not do it again.
          waiting.unshift(...waiters)
          await sleep(retryMs)
          continue
        }
        if (failure instanceof SyncFailure) fail(failure)
        for (const waiter of [...waiters, ...waiting.splice(0)]) waiter.reject(failure)
      }
    }
    isSyncing = false
  }

  function fail(failure: SyncFailure): void {
    if (broken) return
    broken = failure
    hooks.onFailure(failure)
  }

  return {
    together,
    fail,
    givesRoom: () => void (isGivingRoom = true),
    run: (action) =>
      together(() => {
        if (broken) throw broken
        try {
          if (!isOpen) {
            database.begin()
            isOpen = true
          }
          return action()
        } catch (error) {
          throw asFailure(error)
        }
      }),
    stable() {
      if (broken) return Promise.reject(broken)
      if (!needsSync && !isSyncing) return Promise.resolve()
      const waiter = Promise.withResolvers<void>()
      waiting.push(waiter)
      if (!isSyncing) void sync()
      return waiter.promise
    },
  }
}

function isFull(error: unknown): boolean {
  return error instanceof FileSystemError && (error.code === 'ENOSPC' || error.code === 'EDQUOT')
}
