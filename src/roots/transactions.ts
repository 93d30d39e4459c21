/**
 * Transactions of a layer. Each operation is one transaction, which is committed before the
 * operation returns. One sync of the disk serves all callers that wait at that time.
 *
 * The log of the database is emptied from time to time. No changes are possible meanwhile, because the disk
 * must have what was moved before the log is overwritten.
 */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'

import type { LayerDatabase } from './database.ts'
import { asFailure, failure, isFull, SyncFailure } from './failure.ts'

/** How long to wait if no descriptors are left. Milliseconds. */
const retryMs = 100
/** After so many commits, the length of the log is looked at. */
const commitsToLook = 16
/** The same if the log could not be emptied. */
const commitsToRetry = 1024

export interface Transactions {
  /** Runs the action in a transaction: all of it is done, or nothing. */
  run<T>(action: () => T): T
  /**
   * All `run` calls of the action are one transaction; an error undoes all of it. If the disk is
   * full and the action called `givesRoom`, the reserve is given up and the action runs again.
   */
  together<T>(action: () => T): T
  /** To be called by an action that frees room on the disk: it may use the reserve. */
  givesRoom(): void
  /** Resolves once everything that was committed before is on the disk. */
  stable(): Promise<void>
  /** Empties the log soon, although it is short. */
  emptyLog(): void
  /** Resolves when the log is not too long. Changes that can wait should wait for it. */
  whenLogIsShort(): Promise<void>
  /**
   * The disk failed to write something: no more changes are taken. The kernel may forget data that
   * it could not write, so a second sync could succeed although the data is lost.
   */
  fail(error: SyncFailure): void
}

export interface TransactionHooks {
  database: LayerDatabase
  /** Writes pending changes to the database. */
  beforeCommit: () => void
  afterCommit: () => void
  /** Called after everything since the last commit was rolled back. */
  undone: () => void
  /** @returns whether there is more room on the disk than before */
  giveUpReserve: () => boolean
  /**
   * Syncs the files that the database refers to.
   *
   * @returns a function to be called once the database is on the disk, too
   * @throws `EAGAIN` if the caller is to try again
   */
  beforeSync: () => Promise<() => Promise<void>>
  /** Called before the log is emptied: no changes should be asked for until the promise is settled. */
  hold: (until: Promise<void>) => void
  /** The error if the layer failed before, in this process. */
  failed: SyncFailure | undefined
  /** Called when the layer fails. */
  onFailure: (error: SyncFailure) => void
}

export function createTransactions(hooks: TransactionHooks): Transactions {
  const { database, beforeCommit, afterCommit, undone, giveUpReserve, beforeSync } = hooks
  let depth = 0
  let isOpen = false
  let isGivingRoom = false
  // A server that was killed may have left commits that are not on the disk.
  let needsSync = true
  let isSyncing = false
  let waiting: PromiseWithResolvers<void>[] = []
  let broken = hooks.failed
  // The opening of a large layer may have made the log long.
  let commitsLeft = 1
  /** Resolved when the log, which is too long, has been emptied. */
  let emptying: PromiseWithResolvers<void> | undefined
  let isEmptying = false

  function undo(): void {
    if (!isOpen) return
    isOpen = false
    try {
      database.rollback()
    } finally {
      undone()
    }
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
    if (--commitsLeft > 0) return
    commitsLeft = commitsToLook
    if (database.isLogLong()) emptyLog()
  }

  function emptyLog(): void {
    if (emptying || broken) return
    emptying = Promise.withResolvers()
    hooks.hold(emptying.promise)
    // The log is emptied after the next sync.
    stable().catch(() => {})
  }

  async function emptyLogNow({ resolve }: PromiseWithResolvers<void>): Promise<void> {
    isEmptying = true
    try {
      if (!(await database.emptyLog())) commitsLeft = commitsToRetry
    } catch (error) {
      if (error instanceof SyncFailure) fail(error)
      else commitsLeft = commitsToRetry
    } finally {
      isEmptying = false
      emptying = undefined
      resolve()
    }
  }

  /** The log is not emptied now, and is looked at again after some commits. */
  function releaseLog(commits: number): void {
    if (!emptying) return
    emptying.resolve()
    emptying = undefined
    commitsLeft = commits
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
      // So that operations later in this turn are part of the same sync.
      await turn()
      const waiters = waiting
      waiting = []
      needsSync = false
      try {
        const afterwards = await beforeSync()
        await database.sync()
        await afterwards()
        if (emptying) await emptyLogNow(emptying)
        for (const waiter of waiters) waiter.resolve()
      } catch (error) {
        needsSync = true
        const failure = asFailure(error)
        if (failure.code === 'EAGAIN') {
          // Their operations are committed, and nothing is lost. So keep them waiting: an error
          // would make the machine do the operation again.
          waiting.unshift(...waiters)
          // Calls that change nothing need not wait for it.
          releaseLog(commitsToRetry)
          await sleep(retryMs)
          continue
        }
        if (failure instanceof SyncFailure) fail(failure)
        releaseLog(commitsToLook)
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

  function stable(): Promise<void> {
    if (broken) return Promise.reject(broken)
    if (!needsSync && !isSyncing && !emptying) return Promise.resolve()
    const waiter = Promise.withResolvers<void>()
    waiting.push(waiter)
    if (!isSyncing) void sync()
    return waiter.promise
  }

  return {
    together,
    stable,
    emptyLog,
    whenLogIsShort: async () => emptying?.promise,
    fail,
    givesRoom: () => void (isGivingRoom = true),
    run: (action) =>
      together(() => {
        if (broken) throw broken
        if (isEmptying) throw failure('EAGAIN', 'the log is being emptied', emptying?.promise)
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
  }
}
