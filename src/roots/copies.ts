/**
 * Copies of large files of the image, made while the server goes on to serve. A machine that writes
 * to such a file is told to ask again until the copy is finished.
 *
 * A copy has a name of its own. Nothing refers to the copy until it is taken, so the layer stays as
 * it was if the server is killed.
 */
import { lstatSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import pLimit from 'p-limit'

import { FileSystemError, type NodeId } from '../protocols/nfs/file-system.ts'
import { copyBeginning } from './copy-file.ts'
import { asFailure, failure } from './failure.ts'
import type { Room } from './room.ts'

export interface Copies {
  /**
   * @param open opens the file for reading
   * @param bytes how many of the file's first bytes the copy must have
   * @returns the path of the finished copy, which belongs to the caller from now on
   * @throws `EAGAIN` while the copy is being made, or the error that prevents it
   */
  take(node: NodeId, open: () => number, bytes: number): string
  /** Whether a copy of the node is being made, is finished, or has failed. */
  has(node: NodeId): boolean
  /** Ends or removes the copy of this node: it is not needed any more. */
  drop(node: NodeId): void
  /** Bytes on the disk that the copies take now. */
  used(): number
  /** Ends and removes all copies. */
  close(): Promise<void>
}

interface Copy {
  bytes: number
  path: string
  /** Whether there may be a file. Until then, the copy waits for its turn. */
  isBegun: boolean
  isReady: boolean
  /** The error that prevented the copy. */
  error?: unknown
  stop: AbortController
  ended: Promise<void>
  /** Removes the copy if the machine does not ask again. */
  expiry?: NodeJS.Timeout
}

/** Copies that this process makes at a time: they share the disk and Node's threads. */
const maxRunning = 2
/** Copies of one layer, including those that have ended or failed and were not taken since. */
const maxOfLayer = 16
/**
 * A machine that waits asks again every few seconds. If it has not asked for this long since the
 * copy ended, its program has ended or has given up. Milliseconds.
 */
const keptMs = 120_000

const inTurn = pLimit(maxRunning)

export function isCopy(name: string): boolean {
  return name.startsWith('copy-')
}

/** @param folder where the copies are made */
export function createCopies(folder: string, room: Pick<Room, 'take'>): Copies {
  const copies = new Map<NodeId, Copy>()
  const ending = new Set<Promise<void>>()
  let made = 0

  function drop(node: NodeId): void {
    const copy = copies.get(node)
    if (!copy) return
    copies.delete(node)
    clearTimeout(copy.expiry)
    copy.stop.abort()
    // A copy that waits for its turn has no file, and closing the layer does not wait for it.
    if (!copy.isBegun) return
    const removed = copy.ended
      .then(() => rm(copy.path, { force: true }))
      // If the file stays, it is removed when the layer is opened again.
      .catch(() => {})
      .finally(() => ending.delete(removed))
    ending.add(removed)
  }

  function start(node: NodeId, open: () => number, bytes: number): void {
    if (copies.size >= maxOfLayer) {
      const unwanted = [...copies].find(([, { isReady, error }]) => isReady || error !== undefined)
      if (!unwanted) return
      drop(unwanted[0])
    }
    const stop = new AbortController()
    const path = join(folder, `copy-${++made}`)
    const copy: Copy = {
      bytes,
      path,
      isBegun: false,
      isReady: false,
      stop,
      ended: Promise.resolve(),
    }
    copies.set(node, copy)
    const beforePiece = (piece: number) => {
      stop.signal.throwIfAborted()
      room.take(piece)
    }
    copy.ended = inTurn(() => {
      stop.signal.throwIfAborted()
      copy.isBegun = true
      return copyBeginning(() => openSoon(open), path, copy.bytes, beforePiece)
    })
      .then(
        () => void (copy.isReady = true),
        (error: unknown) => void (copy.error = error),
      )
      .then(() => {
        if (copies.get(node) === copy) copy.expiry = setTimeout(() => drop(node), keptMs).unref()
      })
  }

  return {
    drop,
    used() {
      const stats = [...copies.values()].map(({ path }) =>
        lstatSync(path, { throwIfNoEntry: false }),
      )
      return stats.reduce((sum, stat) => sum + (stat?.blocks ?? 0) * 512, 0)
    },
    has: (node) => copies.has(node),
    take(node, open, bytes) {
      const known = copies.get(node)
      if (known?.error !== undefined) {
        drop(node)
        throw asFailure(known.error)
      }
      if (known?.isReady && known.bytes >= bytes) {
        copies.delete(node)
        clearTimeout(known.expiry)
        return known.path
      }
      if (known && known.bytes < bytes) {
        // One that waits keeps its turn. Otherwise each call of a machine could bring another one to wait.
        if (known.isBegun) drop(node)
        else known.bytes = bytes
      }
      if (!copies.has(node)) start(node, open, bytes)
      throw failure('EAGAIN', `the data of node ${node} is being copied`)
    },
    async close() {
      for (const node of [...copies.keys()]) drop(node)
      await Promise.all(ending)
    },
  }
}

/** While the copy waited for its turn, the table of its store path may have been dropped. */
async function openSoon(open: () => number): Promise<number> {
  for (;;) {
    try {
      return open()
    } catch (error) {
      if (!(error instanceof FileSystemError && error.until)) throw error
      await error.until
    }
  }
}
