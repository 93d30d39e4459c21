/**
 * The most room that one layer may take on the disk. So one machine's log cannot fill the disk of
 * all machines.
 *
 * The error is `ENOSPC` and not `EDQUOT`: the limit is the size that `df` shows, and more programs
 * understand it. SQLite, for example, reports `EDQUOT` as a broken disk, but `ENOSPC` as a full one.
 *
 * The room that is taken is measured only now and then: the layer is the only one that writes its
 * files, so it knows how much was taken since.
 */
import type { Space } from '../protocols/nfs/file-system.ts'
import { failure } from './failure.ts'

export interface Limit {
  /**
   * To be called before the layer takes room.
   *
   * @param data bytes of the data of files
   * @param rows bytes in the database
   * @throws `ENOSPC`
   */
  take(data: number, rows: number): void
  /** The room of the layer on a disk that has this room. */
  within(disk: Space): Space
}

/** Bytes on the disk. */
export interface Taken {
  all: number
  /**
   * Of the database: it does not get smaller if rows are deleted, but new rows can have their room.
   */
  reusable: number
}

/** The room is measured again after this part of the free room was taken. */
const partBetweenLooks = 4

/** @param most bytes on the disk @param measure may take a hundred microseconds */
export function openLimit(most: number, measure: () => Taken): Limit {
  /** How much may be taken before the next measurement. */
  let unlooked = 0
  return {
    take(data, rows) {
      const wanted = data + rows
      if (wanted > unlooked) {
        const { all, reusable } = measure()
        const free = Math.max(0, most - all)
        if (data + Math.max(0, rows - reusable) > free) {
          throw failure('ENOSPC', `the layer of the machine has reached its limit: ${most} bytes`)
        }
        unlooked = free / partBetweenLooks
      }
      unlooked = Math.max(0, unlooked - wanted)
    },
    within({ total, free, available, ...files }) {
      const left = Math.max(0, most - measure().all)
      // Some file systems do not tell how many bytes they can hold.
      if (total === 0) return { total: most, free: left, available: left, ...files }
      return {
        total: Math.min(most, total),
        free: Math.min(left, free),
        available: Math.min(left, available),
        ...files,
      }
    },
  }
}
