/**
 * Room on the disk that is kept for removing things: what is removed gives room, but saying so takes
 * some first, in the log of the database. It is given up when the disk is full, and taken again once
 * there is more.
 */
import { rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { spaceAboveFloor } from './floor.ts'

export interface Reserve {
  /** @returns whether there was any to give */
  giveUp(): boolean
  /** Takes it where the disk has enough. */
  take(): void
}

function reserveFile(directory: string): string {
  return join(directory, 'reserve')
}

/** Of a layer that is closed. */
export function dropReserve(directory: string): void {
  rmSync(reserveFile(directory), { force: true })
}

/** Some hundred names, of which each gives room itself once it is gone. */
const bytes = 1 << 20
/** Else the next to write would find the disk full again. */
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
      // All goes on without it, but for what it is for; and it is tried again.
      rmSync(file, { force: true })
    }
  }

  take()
  return { giveUp, take }
}
