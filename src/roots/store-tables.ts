/**
 * The nodes of the store paths in a directory. A store path is walked when it is needed, and is
 * walked again if its table was dropped to make room. If it is not the same then, it is damaged.
 *
 * A walk of a large store path takes seconds. While it goes on in pieces, the caller is told to come again.
 */
import { NetimageError } from '../errors.ts'
import { damaged, ifGone, ifThere } from './image-damage.ts'
import {
  factsOf,
  filesInSteps,
  rowWidth,
  structureInSteps,
  type Facts,
  type ImageTable,
} from './image-table.ts'
import type { KeptTable, PathCache } from './path-cache.ts'
import { doInPieces, doNow, doSome, type Steps } from './steps.ts'
import {
  atFirst,
  isLargeDirectory,
  lookAtDirectory,
  nodesOfStep,
  walkInSteps,
  type Owner,
} from './walk-tree.ts'

/** For `path`: the name of a store path in the directory. Each method throws as `ImageIndex.tableOf`. */
export interface StoreTables {
  tableOf(path: string): ImageTable
  /**
   * As `tableOf`, but does not take long.
   *
   * @returns a promise while the table is being made. When it has resolved, the caller asks again.
   */
  tableSoon(path: string): ImageTable | Promise<void>
  /** As `tableOf`. The walk goes on also if these steps are ended. */
  tableInSteps(path: string): Steps<ImageTable>
  topOf(path: string): Facts
  /** As `topOf`, but does not take long: see `tableSoon`. */
  topSoon(path: string): Facts | Promise<void>
  structureOf(path: string): string
  /** As `structureOf`, but does not take long: see `tableSoon`. */
  structureSoon(path: string): string | Promise<void>
  /** As `structureOf`: see `tableInSteps`. */
  structureInSteps(path: string): Steps<string>
  /** The next use walks the store path as if it were new. */
  forget(path: string): void
  close(): void
}

export interface StoreTablesSettings {
  owner: Owner
  cache: PathCache
  /** A store path with more nodes is refused. */
  maxNodes: number
  placeOnDisk: (path: string) => Buffer
  /** The store path's name in errors. */
  shown: (path: string) => string
  /** Whether the store path was a directory when the directory was read. */
  isDirectory: (path: string) => boolean
  /** Milliseconds since any time. */
  now: () => number
}

/**
 * How long a damaged store path is refused without another look. A look at a large path takes
 * seconds, and machines ask for each file. Milliseconds.
 */
const refusedFor = 60_000

interface Refusal {
  error: NetimageError
  until: number
}

/** A walk that goes on in pieces. Whoever needs the table can do some of the steps. */
interface Walk {
  steps: Steps<ImageTable>
  done: Promise<void>
  stop: AbortController
  /** Whether somebody comes again when it has ended. */
  isAwaited: boolean
}

export function createStoreTables(settings: StoreTablesSettings): StoreTables {
  const { owner, cache, maxNodes, placeOnDisk, shown, isDirectory, now } = settings
  const kept = new Map<string, KeptTable>()
  const tops = new Map<string, Float64Array>()
  const refusals = new Map<string, Refusal>()
  /** Of each store path that was walked. Each hash is cut to half: there are many. */
  const walked = new Map<string, { files: string; structure: string }>()
  const walks = new Map<string, Walk>()
  /** Errors of walks in pieces, which the next caller gets. */
  const failures = new Map<string, unknown>()

  function knownTable(path: string): ImageTable | undefined {
    const known = kept.get(path)
    if (known) {
      cache.uses(known)
      return known.table
    }
    const refusal = refusals.get(path)
    if (refusal && now() < refusal.until) throw refusal.error
    refusals.delete(path)
    return undefined
  }

  function tableOf(path: string): ImageTable {
    return knownTable(path) ?? doNow(endWalk(path)?.steps ?? walkAndKeep(path))
  }

  function tableSoon(path: string): ImageTable | Promise<void> {
    const known = knownTable(path)
    if (known) return known
    let walk = walks.get(path)
    if (!walk) {
      mustNotHaveFailed(path)
      const steps = walkAndKeep(path)
      const table = doSome(steps, atFirst)
      if (table) return table.value
      walk = walkOn(path, steps)
    }
    walk.isAwaited = true
    return walk.done
  }

  function* tableInSteps(path: string): Steps<ImageTable> {
    for (;;) {
      const known = knownTable(path)
      if (known) return known
      mustNotHaveFailed(path)
      const walk = walks.get(path) ?? walkOn(path, walkAndKeep(path))
      while (walks.get(path) === walk) {
        const step = walk.steps.next()
        if (step.done) return step.value
        // A step of a walk takes as long as many others.
        for (let node = 0; node < nodesOfStep; node++) yield
      }
    }
  }

  function mustNotHaveFailed(path: string): void {
    if (!failures.has(path)) return
    const error = failures.get(path)
    failures.delete(path)
    throw error
  }

  function walkOn(path: string, steps: Steps<ImageTable>): Walk {
    const stop = new AbortController()
    const walk = { steps, done: goOn(path, steps, stop.signal), stop, isAwaited: false }
    walks.set(path, walk)
    return walk
  }

  async function goOn(path: string, steps: Steps<ImageTable>, signal: AbortSignal): Promise<void> {
    try {
      await doInPieces(steps, signal)
    } catch (error) {
      if (!signal.aborted && !refusals.has(path)) failures.set(path, error)
    }
  }

  /** @returns the walk, whose further steps nobody else does */
  function endWalk(path: string): Walk | undefined {
    const walk = walks.get(path)
    walk?.stop.abort()
    walks.delete(path)
    return walk
  }

  /** Closes the directory that the walk reads. */
  function giveUpWalk(path: string): void {
    endWalk(path)?.steps[Symbol.dispose]()
  }

  function* walkAndKeep(path: string): Steps<ImageTable> {
    try {
      const table = yield* walk(path)
      yield* mustBeSame(path, table)
      const isAwaited = walks.get(path)?.isAwaited ?? false
      kept.set(
        path,
        cache.keep(table, () => void kept.delete(path), isAwaited),
      )
      return table
    } catch (error) {
      if (error instanceof NetimageError) {
        const isDamaged = error.code === 'image-damaged'
        refusals.set(path, { error, until: isDamaged ? now() + refusedFor : Infinity })
      }
      throw error
    } finally {
      // At once: nobody may go on with a walk that has ended.
      walks.delete(path)
    }
  }

  function* walk(path: string): Steps<ImageTable> {
    const tooMany = { most: maxNodes, refuse: () => refuse(shown(path), maxNodes) }
    const settings = { owner, mergesLinks: false, tooMany }
    try {
      return yield* walkInSteps(placeOnDisk(path), settings)
    } catch (error) {
      throw ifGone(() => shown(path), error)
    }
  }

  function* mustBeSame(path: string, table: ImageTable): Steps {
    const structure = yield* structureInSteps(table)
    const files = (yield* filesInSteps(table, structure)).slice(0, 32)
    const isSameKind = (factsOf(table.rows, 1)?.kind === 'directory') === isDirectory(path)
    const before = walked.get(path)
    if (!isSameKind || (before && before.files !== files)) {
      throw damaged(shown(path), 'it has other files')
    }
    walked.set(path, { files, structure: structure.slice(0, 32) })
  }

  const knownStructure = (path: string) => walked.get(path)?.structure

  const knownTop = (path: string) => kept.get(path)?.table.rows ?? tops.get(path)

  function onDisk<T>(path: string, action: (place: Buffer) => T): T {
    return ifThere(
      () => shown(path),
      () => action(placeOnDisk(path)),
    )
  }

  function topOf(path: string): Facts {
    let rows = knownTop(path)
    if (!rows && isDirectory(path)) {
      rows = onDisk(path, (place) => lookAtDirectory(place, owner))
      tops.set(path, rows)
    }
    const facts = factsOf(rows ?? tableOf(path).rows, 1)
    if (facts) return facts
    throw new RangeError(`there is no store path ${path}`)
  }

  return {
    tableOf,
    tableSoon,
    tableInSteps,
    topOf,
    topSoon(path) {
      const isLarge = !knownTop(path) && isDirectory(path) && onDisk(path, isLargeDirectory)
      const table = isLarge ? tableSoon(path) : undefined
      if (table instanceof Promise) return table
      if (table) tops.set(path, table.rows.slice(0, rowWidth))
      return topOf(path)
    },
    structureOf(path) {
      if (!walked.has(path)) tableOf(path)
      return knownStructure(path) ?? ''
    },
    structureSoon(path) {
      const table = walked.has(path) ? undefined : tableSoon(path)
      return table instanceof Promise ? table : (knownStructure(path) ?? '')
    },
    *structureInSteps(path) {
      if (!walked.has(path)) yield* tableInSteps(path)
      return knownStructure(path) ?? ''
    },
    forget(path) {
      const table = kept.get(path)
      if (table) cache.remove(table)
      giveUpWalk(path)
      for (const known of [kept, tops, refusals, walked, failures]) known.delete(path)
    },
    close() {
      for (const table of kept.values()) cache.remove(table)
      kept.clear()
      for (const path of walks.keys()) giveUpWalk(path)
    },
  }
}

function refuse(shownPath: string, most: number): never {
  throw new NetimageError(
    'too-many-files',
    `the store path ${shownPath} has more than ${most} files`,
    {
      details: { file: shownPath, expected: most },
      hint: 'No machine can use this store path. Leave it out of the system, or split it.',
    },
  )
}
