/**
 * The tables of store paths that are kept in memory. All images of this process share the room. If
 * the room is used up, the table that was not used for longest is dropped, and made again when it
 * is next needed.
 */
import { countNodes, type ImageTable } from './image-table.ts'

export interface KeptTable {
  readonly table: ImageTable
}

export interface PathCache {
  /**
   * @param drop called when the table is dropped to make room: the caller must then forget the table
   */
  keep(table: ImageTable, drop: () => void): KeptTable
  /** To be called at each use of a kept table. */
  uses(kept: KeptTable): void
  /** The caller does not need the table any more. */
  remove(kept: KeptTable): void
}

/** A node takes about 170 bytes. */
const maxNodes = 500_000

/**
 * A table counts as half of the room at most, even if it has more nodes. So the two tables that were
 * last used are always kept: machines often use two store paths in turn. And a table that is larger
 * than the room does not push out all others.
 *
 * @param most nodes of all tables together
 */
export function createPathCache(most = maxNodes): PathCache {
  /** In the order of their last use. */
  const all = new Map<KeptTable, () => void>()
  let taken = 0
  const sizeOf = (table: ImageTable) => Math.min(countNodes(table), most / 2)

  function remove(kept: KeptTable): void {
    if (all.delete(kept)) taken -= sizeOf(kept.table)
  }

  function makeRoom(size: number): void {
    for (const [oldest, drop] of all) {
      if (taken + size <= most) return
      remove(oldest)
      drop()
    }
  }

  return {
    remove,
    uses(kept) {
      const drop = all.get(kept)
      if (!drop) return
      all.delete(kept)
      all.set(kept, drop)
    },
    keep(table, drop) {
      makeRoom(sizeOf(table))
      const kept: KeptTable = { table }
      all.set(kept, drop)
      taken += sizeOf(table)
      return kept
    },
  }
}

export const sharedPathCache = createPathCache()
