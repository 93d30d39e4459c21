/**
 * The nodes of the store paths of an image. A store path is walked when it is needed, and is walked
 * again if its table was dropped to make room. If it is not the same then, it is damaged.
 */
import { NetimageError } from '../errors.ts'
import { damaged, ifThere } from './image-damage.ts'
import { factsOf, filesOf, structureOf, type Facts, type ImageTable } from './image-table.ts'
import type { KeptTable, PathCache } from './path-cache.ts'
import { lookAtDirectory, walkTree, type Owner } from './walk-tree.ts'

/** For `path`: the place of a store path among all. Each method throws as `ImageIndex.tableOf`. */
export interface StoreTables {
  tableOf(path: number): ImageTable
  topOf(path: number): Facts
  structureOf(path: number): string
  close(): void
}

export interface StoreTablesSettings {
  owner: Owner
  cache: PathCache
  /** A store path with more nodes is refused. */
  maxNodes: number
  placeOnDisk: (path: number) => Buffer
  /** The store path's name in errors. */
  shown: (path: number) => string
  /** Whether the store path was a directory when the index was made. */
  isDirectory: (path: number) => boolean
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
  const kept: (KeptTable | undefined)[] = []
  const tops: (Float64Array | undefined)[] = []
  const refusals = new Map<number, Refusal>()
  /** Of each store path that was walked. Each hash is cut to half: there are many. */
  const walked: ({ files: string; structure: string } | undefined)[] = []

  function tableOf(path: number): ImageTable {
    const known = kept[path]
    if (known) {
      cache.uses(known)
      return known.table
    }
    const refusal = refusals.get(path)
    if (refusal && now() < refusal.until) throw refusal.error
    refusals.delete(path)
    const table = walkOrRefuse(path)
    kept[path] = cache.keep(table, () => void (kept[path] = undefined))
    return table
  }

  function walkOrRefuse(path: number): ImageTable {
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

  function walk(path: number): ImageTable {
    const tooMany = { most: maxNodes, refuse: () => refuse(shown(path), maxNodes) }
    const settings = { owner, mergesLinks: false, tooMany }
    return ifThere(
      () => shown(path),
      () => walkTree(placeOnDisk(path), settings),
    )
  }

  function mustBeSame(path: number, table: ImageTable): void {
    const files = filesOf(table).slice(0, 32)
    const isSameKind = (factsOf(table.rows, 1)?.kind === 'directory') === isDirectory(path)
    if (!isSameKind || (walked[path] && walked[path].files !== files)) {
      throw damaged(shown(path), 'it has other files')
    }
    walked[path] ??= { files, structure: structureOf(table).slice(0, 32) }
  }

  return {
    tableOf,
    topOf(path) {
      let rows = kept[path]?.table.rows ?? tops[path]
      if (!rows && isDirectory(path)) {
        rows = tops[path] = ifThere(
          () => shown(path),
          () => lookAtDirectory(placeOnDisk(path), owner),
        )
      }
      const facts = factsOf(rows ?? tableOf(path).rows, 1)
      if (facts) return facts
      throw new RangeError(`the image has no store path ${path}`)
    },
    structureOf(path) {
      if (!walked[path]) tableOf(path)
      return walked[path]?.structure ?? ''
    },
    close() {
      for (const table of kept) if (table) cache.remove(table)
      kept.length = 0
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
