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
   * @param isAwaited whether somebody comes soon to use it. Others are dropped before it until then
   */
  keep(table: ImageTable, drop: () => void, isAwaited?: boolean): KeptTable
  /** To be called at each use of a kept table. */
  uses(kept: KeptTable): void
  /** The caller does not need the table any more. */
  remove(kept: KeptTable): void
}

/** A node takes about 170 bytes. */
const maxNodes = 500_000
/** A machine that was told to come again has come, or has given up, after this time. Milliseconds. */
const awaitedMs = 10_000

interface Use {
  drop: () => void
  /** Until this time, others are dropped first. */
  awaitedUntil: number
}

/**
 * A table counts as half of the room at most, even if it has more nodes. So the two tables that were
 * last used are always kept: machines often use two store paths in turn. And a table that is larger
 * than the room does not push out all others. Only tables for which machines were told to come again can push out
 * the last two, until these machines have come.
 *
 * @param most nodes of all tables together
 * @param now milliseconds since any time
 */
export function createPathCache(most = maxNodes, now = () => performance.now()): PathCache {
  /** In the order of their last use. */
  const all = new Map<KeptTable, Use>()
  let taken = 0
  const sizeOf = (table: ImageTable) => Math.min(countNodes(table), most / 2)

  function remove(kept: KeptTable): void {
    if (all.delete(kept)) taken -= sizeOf(kept.table)
  }

  /** Drops tables, the oldest first. */
  function makeRoom(size: number, mayDrop: (use: Use) => boolean): void {
    for (const [oldest, use] of all) {
      if (taken + size <= most) return
      if (!mayDrop(use)) continue
      remove(oldest)
      use.drop()
    }
  }

  return {
    remove,
    uses(kept) {
      const use = all.get(kept)
      if (!use) return
      use.awaitedUntil = 0
      all.delete(kept)
      all.set(kept, use)
    },
    keep(table, drop, isAwaited = false) {
      const time = now()
      makeRoom(sizeOf(table), ({ awaitedUntil }) => awaitedUntil <= time)
      makeRoom(sizeOf(table), () => true)
      const kept: KeptTable = { table }
      all.set(kept, { drop, awaitedUntil: isAwaited ? time + awaitedMs : 0 })
      taken += sizeOf(table)
      return kept
    },
  }
}

export const sharedPathCache = createPathCache()
