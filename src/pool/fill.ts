/** Brings a closure's paths into the pool: from wherever they are, each verified. */
import pLimit from 'p-limit'

import { NetimageError } from '../errors.ts'
import { alternatives, type ClosurePath, type StoreAccess } from '../nix/closure.ts'
import { contentCheck, parseContentAddress } from '../nix/content-address.ts'
import type { PathInfo } from '../nix/path-info.ts'
import { isContentAddressed } from '../nix/trust.ts'
import { plural, type Progress, type Task } from '../progress.ts'
import type { ReceiveJob } from './jobs.ts'
import type { Pool } from './pool.ts'
import { mismatch } from './receive.ts'
import type { Workers } from './workers.ts'

export interface FillContext {
  pool: Pool
  workers: Workers
  access: StoreAccess
  signal: AbortSignal
  progress: Progress
}

/** Transfers wait for the network more than they work; what they fetched waits on the disk. */
const transfersAtOnce = 16
const updateMs = 100

export async function fillPool(paths: Iterable<ClosurePath>, context: FillContext): Promise<void> {
  const all = [...paths]
  await fillTrees(all, context)
  await checkContents(all, context)
}

async function fillTrees(paths: readonly ClosurePath[], context: FillContext): Promise<void> {
  const { pool, progress } = context
  // Paths with the same content share an entry.
  const byEntry = new Map(paths.map((path) => [path.info.narHash.hex, path]))
  const pathOf = (info: PathInfo) => byEntry.get(info.narHash.hex)
  const claim = pool.claim([...byEntry.values()].map((path) => path.info))
  const damaged = await checkDoubtful(claim.doubtful, context)
  const missing = [...claim.missing, ...damaged]
    .map(pathOf)
    .filter((path) => path !== undefined)
    // The largest first: they would otherwise be waited for alone at the end.
    .sort((a, b) => b.info.narSize - a.info.narSize)
  if (missing.length === 0) return

  const totalBytes = narBytes(missing.map((path) => path.info))
  const task = progress.begin('unpacking', { paths: missing.length, bytes: totalBytes })
  const counts = { paths: 0, downloaded: 0 }
  // A failure ends the transfers that are under way, too.
  const failed = new AbortController()
  const signal = AbortSignal.any([context.signal, failed.signal])
  await watchBytes(context.workers, task, counts, () =>
    allOrNone(missing, transfersAtOnce, async (path) => {
      const downloaded = (bytes: number) => (counts.downloaded += bytes)
      await receiveAnywhere(path, { ...context, signal }, downloaded).catch((error: unknown) => {
        failed.abort()
        throw error
      })
      counts.paths++
    }),
  )
  task.end(`unpacked and verified ${plural(missing.length, 'path')}`)
}

/** What may not be what it was when it was unpacked is hashed once more. */
async function checkDoubtful(
  doubtful: readonly PathInfo[],
  { pool, workers, progress }: FillContext,
): Promise<PathInfo[]> {
  if (doubtful.length === 0) return []
  const total = { paths: doubtful.length, bytes: narBytes(doubtful) }
  const task = progress.begin('checking the pool', total)
  const counts = { paths: 0 }
  const damaged: PathInfo[] = []
  await watchBytes(workers, task, counts, () =>
    Promise.all(
      doubtful.map(async (info) => {
        const { narHash, narSize } = info
        const job = { kind: 'check', tree: pool.treePath(info), narHash, narSize } as const
        // A tree that cannot even be read is as good as a wrong one.
        const whole = await workers.run(job).catch(() => false)
        if (whole) pool.confirm(info)
        else {
          damaged.push(info)
          pool.discard(info)
        }
        counts.paths++
      }),
    ),
  )
  task.end(`checked ${plural(doubtful.length, 'path')} unpacked before this machine last started`)
  return damaged
}

/** From the path's own store, or from the next one that has the same. */
async function receiveAnywhere(
  path: ClosurePath,
  context: FillContext,
  downloaded: (bytes: number) => void,
): Promise<void> {
  let failure: NetimageError
  try {
    return await receive(path, context, downloaded)
  } catch (error) {
    failure = ofStore(error, context.signal)
  }
  for await (const other of alternatives(path, context.access)) {
    context.progress.warn(`${failure.message}; taking it from ${other.store.url}`)
    try {
      return await receive(other, context, downloaded)
    } catch (error) {
      failure = ofStore(error, context.signal)
    }
  }
  throw new NetimageError(
    failure.code,
    `could not get ${path.info.path} from ${path.store.url}: ${failure.message}`,
    { cause: failure, ...(failure.hint !== undefined && { hint: failure.hint }) },
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

/** The error where another store may do better; anything else is thrown on. */
function ofStore(error: unknown, signal: AbortSignal): NetimageError {
  if (signal.aborted || !(error instanceof NetimageError)) throw error
  if (!causedByStore.has(error.code)) throw error
  return error
}

async function receive(
  { info, stored }: ClosurePath,
  { pool, workers, signal }: FillContext,
  downloaded: (bytes: number) => void,
): Promise<void> {
  signal.throwIfAborted()
  const source = await stored.fetch({ scratch: pool.scratch, signal, downloaded })
  const job: ReceiveJob = {
    kind: 'receive',
    source,
    expected: { path: info.path, narHash: info.narHash, narSize: info.narSize },
    scratch: pool.newScratch(),
    entry: pool.entryPath(info),
  }
  await workers.run(job)
}

/**
 * Content addresses are held against the trees themselves, whatever brought those into the pool:
 * that a tree has the NAR hash which somebody claims of a path does not make it the path's content.
 */
async function checkContents(
  paths: readonly ClosurePath[],
  { pool, workers }: FillContext,
): Promise<void> {
  await Promise.all(
    paths.map(async ({ info }) => {
      const address = isContentAddressed(info) ? parseContentAddress(info.ca ?? '') : undefined
      const content = address && contentCheck(info, address)
      if (!content) return
      if (await workers.run({ kind: 'content', tree: pool.treePath(info), content })) return
      throw mismatch('hash-mismatch', info, `its content is not that of its address ${info.ca}`)
    }),
  )
}

/**
 * Runs `action` for each item, some at a time. After a failure none is begun any more, and those
 * that run are waited for: whoever cleans up is not to meet them.
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

/** Tells a task of the bytes that the workers did, while `action` runs. */
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

function narBytes(infos: readonly PathInfo[]): number {
  return infos.reduce((sum, info) => sum + info.narSize, 0)
}
