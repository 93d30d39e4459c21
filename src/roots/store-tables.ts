/**
 * The nodes of the store paths in a directory. A store path is walked when it is needed, and is
 * walked again if its table was dropped to make room. If it is not the same then, it is damaged.
 */
import { NetimageError } from '../errors.ts'
import { damaged, ifThere } from './image-damage.ts'
import { factsOf, filesOf, structureOf, type Facts, type ImageTable } from './image-table.ts'
import type { KeptTable, PathCache } from './path-cache.ts'
import { lookAtDirectory, walkTree, type Owner } from './walk-tree.ts'

/** For `path`: the name of a store path in the directory. Each method throws as `ImageIndex.tableOf`. */
export interface StoreTables {
  tableOf(path: string): ImageTable
  topOf(path: string): Facts
  structureOf(path: string): string
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

export function createStoreTables(settings: StoreTablesSettings): StoreTables {
  const { owner, cache, maxNodes, placeOnDisk, shown, isDirectory, now } = settings
  const kept = new Map<string, KeptTable>()
  const tops = new Map<string, Float64Array>()
  const refusals = new Map<string, Refusal>()
  /** Of each store path that was walked. Each hash is cut to half: there are many. */
  const walked = new Map<string, { files: string; structure: string }>()

  function tableOf(path: string): ImageTable {
    const known = kept.get(path)
    if (known) {
      cache.uses(known)
      return known.table
    }
    const refusal = refusals.get(path)
    if (refusal && now() < refusal.until) throw refusal.error
    refusals.delete(path)
    const table = walkOrRefuse(path)
    kept.set(
      path,
      cache.keep(table, () => void kept.delete(path)),
    )
    return table
  }

  function walkOrRefuse(path: string): ImageTable {
    try {
      const table = walk(path)
      mustBeSame(path, table)
      return table
    } catch (error) {
      if (error instanceof NetimageError) {
        const isDamaged = error.code === 'image-damaged'
        refusals.set(path, { error, until: isDamaged ? now() + refusedFor : Infinity })
      }
      throw error
    }
  }

  function walk(path: string): ImageTable {
    const tooMany = { most: maxNodes, refuse: () => refuse(shown(path), maxNodes) }
    const settings = { owner, mergesLinks: false, tooMany }
    return ifThere(
      () => shown(path),
      () => walkTree(placeOnDisk(path), settings),
    )
  }

  function mustBeSame(path: string, table: ImageTable): void {
    const files = filesOf(table).slice(0, 32)
    const isSameKind = (factsOf(table.rows, 1)?.kind === 'directory') === isDirectory(path)
    const before = walked.get(path)
    if (!isSameKind || (before && before.files !== files)) {
      throw damaged(shown(path), 'it has other files')
    }
    if (!before) walked.set(path, { files, structure: structureOf(table).slice(0, 32) })
  }

  return {
    tableOf,
    topOf(path) {
      let rows = kept.get(path)?.table.rows ?? tops.get(path)
      if (!rows && isDirectory(path)) {
        rows = ifThere(
          () => shown(path),
          () => lookAtDirectory(placeOnDisk(path), owner),
        )
        tops.set(path, rows)
      }
      const facts = factsOf(rows ?? tableOf(path).rows, 1)
      if (facts) return facts
      throw new RangeError(`there is no store path ${path}`)
    },
    structureOf(path) {
      if (!walked.has(path)) tableOf(path)
      return walked.get(path)?.structure ?? ''
    },
    forget(path) {
      const table = kept.get(path)
      if (table) cache.remove(table)
      for (const known of [kept, tops, refusals, walked]) known.delete(path)
    },
    close() {
      for (const table of kept.values()) cache.remove(table)
      kept.clear()
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
