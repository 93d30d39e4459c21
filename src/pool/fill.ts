/** Fetches the paths of a closure into the pool and verifies each. */
import pLimit from 'p-limit'

import { explained, NetimageError } from '../errors.ts'
import { alternative, giveUp, type Closure, type ClosurePath } from '../nix/closure.ts'
import { contentCheck, parseContentAddress } from '../nix/content-address.ts'
import type { PathInfo } from '../nix/path-info.ts'
import { isContentAddressed } from '../nix/trust.ts'
import { plural, type Task } from '../progress.ts'
import type { PoolContext } from './context.ts'
import type { ReceiveJob } from './jobs.ts'
import type { Claimed } from './pool.ts'
import { mismatch, wrongSize } from './receive.ts'
import type { Workers } from './workers.ts'

/** More than the workers, because transfers mostly wait for the network. They store on the disk. */
const transfersAtOnce = 16
const updateMs = 100

/**
 * If a store fails, asks the next store that has the path.
 *
 * @returns the same paths in the same order, each with the store that it came from in the end
 */
export async function fillPool(
  paths: Iterable<ClosurePath>,
  context: PoolContext,
): Promise<Closure> {
  const filled = new Map([...paths].map((path) => [path.info.path, path]))
  let round = [...filled.values()]
  while (round.length > 0) {
    round = await fillRound(round, context)
    for (const path of round) filled.set(path.info.path, path)
  }
  return filled
}

/** Paths with the same content share an entry. */
const entryOf = ({ narHash }: PathInfo) => narHash.hex

/** The true size of each entry's NAR, in bytes. */
type Sizes = Map<string, number>

/** A path that its store could not deliver as described. */
interface Failed {
  path: ClosurePath
  failure: NetimageError
  /** The path in another store, if we have already found one. */
  other?: ClosurePath
}

type Fail = (failed: Failed) => Promise<void>

/**
 * Fetches each path from its store. Then checks its size and content address, too: several paths
 * may share one NAR, and the workers have checked only the hash of that NAR.
 *
 * @returns the paths that failed, each now with another store
 */
async function fillRound(
  paths: readonly ClosurePath[],
  context: PoolContext,
): Promise<ClosurePath[]> {
  const others: ClosurePath[] = []
  const fail: Fail = async (failed) => {
    others.push(await fromAnotherStore(failed, context))
  }
  const sizes = await fillEntries(paths, context, fail)
  await allOrNone(paths, paths.length, async (path) => {
    const { info } = path
    const narSize = sizes.get(entryOf(info))
    if (narSize === undefined) return
    const failure =
      narSize === info.narSize ? await checkContent(info, context) : wrongSize(info, narSize)
    if (failure) await fail({ path, failure })
  })
  return others
}

async function fromAnotherStore(
  { path, failure, other }: Failed,
  { access, progress }: PoolContext,
): Promise<ClosurePath> {
  const next = other ?? (await alternative(path, access))
  if (!next) {
    throw explained(
      failure,
      `could not get ${path.info.path} from ${path.store.url}: ${failure.message}`,
      { path: path.info.path, store: path.store.url },
    )
  }
  // An unreachable cache fails for hundreds of paths, so warn only once.
  if (failure.code === 'store-unavailable') giveUp(path.store, failure, access)
  else progress.warn(`${failure.message}; taking it from ${next.store.url}`)
  return next
}

/** @returns the sizes, without the entries of which all paths failed */
async function fillEntries(
  paths: readonly ClosurePath[],
  context: PoolContext,
  fail: Fail,
): Promise<Sizes> {
  const { pool, progress } = context
  const byEntry = Map.groupBy(paths, ({ info }) => entryOf(info))
  const claim = await pool.claim([...byEntry.values()].flatMap(([first]) => first?.info ?? []))
  const sizes: Sizes = new Map(claim.present.map(({ info, narSize }) => [entryOf(info), narSize]))
  const damaged = await checkDoubtful(claim.doubtful, context, sizes)
  const missing = [...claim.missing, ...damaged]
    // The largest first. Otherwise only they would be left at the end, with nothing in parallel.
    .sort((a, b) => b.narSize - a.narSize)
  if (missing.length === 0) return sizes

  const task = progress.begin('unpacking', { paths: missing.length, bytes: narBytes(missing) })
  const counts = { paths: 0, downloaded: 0 }
  // A failure also ends the other transfers.
  const failed = new AbortController()
  const signal = AbortSignal.any([context.signal, failed.signal])
  const downloaded = (bytes: number) => (counts.downloaded += bytes)
  await watchBytes(context.workers, task, counts, () =>
    allOrNone(missing, transfersAtOnce, async (info) => {
      try {
        const same = byEntry.get(entryOf(info)) ?? []
        const narSize = await receiveAny(same, { ...context, signal }, downloaded, fail)
        if (narSize === undefined) return
        sizes.set(entryOf(info), narSize)
        counts.paths++
      } catch (error) {
        failed.abort()
        throw error
      }
    }),
  )
  task.end(`unpacked and verified ${plural(counts.paths, 'path')}`)
  return sizes
}

/** @returns the size of the NAR; undefined if all of these paths failed */
async function receiveAny(
  same: readonly ClosurePath[],
  context: PoolContext,
  downloaded: (bytes: number) => void,
  fail: Fail,
): Promise<number | undefined> {
  const failures: Failed[] = []
  for (const path of same) {
    const gone = context.access.failed.get(path.store)
    // Ask a failed store again only if no other store has the path: each failure takes long.
    const other = gone && (await alternative(path, context.access))
    if (other) {
      failures.push({ path, failure: gone, other })
      continue
    }
    try {
      await receive(path, context, downloaded)
      return path.info.narSize
    } catch (error) {
      if (context.signal.aborted || !isOfStore(error)) throw error
      failures.push({ path, failure: error })
    }
  }
  for (const failed of failures) await fail(failed)
  return undefined
}

/**
 * Hashes again the entries that may have changed since they were unpacked.
 *
 * @returns the damaged entries, which are removed
 */
async function checkDoubtful(
  doubtful: readonly Claimed[],
  { pool, workers, progress }: PoolContext,
  sizes: Sizes,
): Promise<PathInfo[]> {
  if (doubtful.length === 0) return []
  const total = { paths: doubtful.length, bytes: narBytes(doubtful) }
  const task = progress.begin('checking the pool', total)
  const counts = { paths: 0 }
  const damaged: PathInfo[] = []
  await watchBytes(workers, task, counts, () =>
    allOrNone(doubtful, doubtful.length, async (claimed) => {
      const { info, narSize } = claimed
      const tree = pool.treePath(info)
      const job = { kind: 'check', tree, narHash: info.narHash, narSize } as const
      // Treat a tree that cannot be read like a damaged one.
      const whole = await workers.run(job).catch((error: unknown) => {
        if (isUnreadable(error)) return false
        throw error
      })
      if (whole) {
        pool.confirm(claimed)
        sizes.set(entryOf(info), narSize)
      } else {
        damaged.push(info)
        pool.discard(info)
      }
      counts.paths++
    }),
  )
  task.end(`checked ${plural(doubtful.length, 'path')} of the pool once more`)
  return damaged
}

/** Other errors mean that the check or its thread was ended. */
function isUnreadable(error: unknown): boolean {
  return (
    error instanceof NetimageError && (error.code === 'file-system' || error.code === 'bad-store')
  )
}

const causedByStore = new Set([
  'bad-nar',
  'bad-narinfo',
  'bad-compression',
  'bad-store',
  'hash-mismatch',
  'size-mismatch',
  'path-not-found',
  'store-unavailable',
  'not-allowed',
])

/** Whether another store may succeed. */
function isOfStore(error: unknown): error is NetimageError {
  return error instanceof NetimageError && causedByStore.has(error.code)
}

async function receive(
  { info, stored }: ClosurePath,
  { pool, workers, signal, isSearched }: PoolContext,
  downloaded: (bytes: number) => void,
): Promise<void> {
  signal.throwIfAborted()
  const source = await stored.fetch({ scratch: pool.scratch, signal, downloaded })
  const job: ReceiveJob = {
    kind: 'receive',
    source,
    expected: { path: info.path, narHash: info.narHash, narSize: info.narSize },
    search: isSearched?.(info) ?? false,
    scratch: pool.newScratch(),
    entry: pool.entryPath(info),
  }
  await workers.run(job)
}

async function checkContent(
  info: PathInfo,
  { pool, workers }: PoolContext,
): Promise<NetimageError | undefined> {
  const address = isContentAddressed(info) ? parseContentAddress(info.ca ?? '') : undefined
  const content = address && contentCheck(info, address)
  if (!content) return undefined
  if (await workers.run({ kind: 'content', tree: pool.treePath(info), content })) return undefined
  const why = `its content does not match its content address ${info.ca}`
  return mismatch('hash-mismatch', info, why, {
    field: 'CA',
    ...(info.ca && { expected: info.ca }),
  })
}

/**
 * Runs `action` for each item, `atOnce` at a time. After a failure, starts no more and waits for
 * those that run, so that they do not disturb the caller's clean-up.
 */
export async function allOrNone<T>(
  items: readonly T[],
  atOnce: number,
  action: (item: T) => Promise<void>,
): Promise<void> {
  const limit = pLimit(atOnce)
  const failures: unknown[] = []
  await Promise.all(
    items.map((item) =>
      limit(async () => {
        if (failures.length > 0) return
        await action(item).catch((error: unknown) => failures.push(error))
      }),
    ),
  )
  if (failures.length > 0) throw failures[0]
}

/** Reports the workers' bytes to a task while `action` runs. */
export async function watchBytes(
  workers: Workers,
  task: Task,
  counts: { paths: number; downloaded?: number },
  action: () => Promise<unknown>,
): Promise<void> {
  const before = workers.bytesDone()
  const update = () => task.update({ ...counts, bytes: workers.bytesDone() - before })
  const timer = setInterval(update, updateMs)
  try {
    await action()
    update()
  } finally {
    clearInterval(timer)
  }
}

function narBytes(sized: readonly { narSize: number }[]): number {
  return sized.reduce((sum, { narSize }) => sum + narSize, 0)
}
