/**
 * Room on the disk that is kept for removing files. Removing a file frees room, but first takes
 * some for the log of the database. The reserve is given up when the disk is full, and taken again
 * when there is room.
 */
import { rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { isFull } from './failure.ts'
import { spaceAboveFloor } from './floor.ts'

export interface Reserve {
  /** @returns whether there was a reserve */
  giveUp(): boolean
  /** Takes the reserve if the disk has enough room. */
  take(): void
}

function reserveFile(directory: string): string {
  return join(directory, 'reserve')
}

/**
 * Runs the action. If the disk is full, gives up the reserve of the contents and runs the action
 * again.
 *
 * @param contents which no machine uses any more, so they do not need their reserve
 */
export function withReserveOf(contents: string, action: () => void): void {
  try {
    action()
  } catch (error) {
    giveUpReserveOf(contents, error)
    action()
  }
}

/** For an action that failed and is then run again. @throws the error if the disk is not full */
export function giveUpReserveOf(contents: string, error: unknown): void {
  if (!isFull(error)) throw error
  rmSync(reserveFile(contents), { force: true })
}

/** Enough to remove some hundred names. Each removed name then frees room itself. */
const bytes = 1 << 20
/** The reserve is taken only if this much is free, or the next write would fill the disk again. */
const leastFree = 4 * bytes

export function openReserve(directory: string): Reserve {
  const file = reserveFile(directory)
  let isThere = statSync(file, { throwIfNoEntry: false })?.size === bytes

  function giveUp(): boolean {
    const had = isThere
    isThere = false
    if (had) truncateSync(file)
    return had
  }

  function take(): void {
    if (isThere) return
    try {
      if (spaceAboveFloor(directory).available < leastFree) return
      writeFileSync(file, Buffer.alloc(bytes), { mode: 0o600 })
      isThere = true
    } catch {
      // The layer works without the reserve; only removing on a full disk may fail. The next sync
      // tries again.
      rmSync(file, { force: true })
    }
  }

  take()
  return { giveUp, take }
}
