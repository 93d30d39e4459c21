/**
 * Copies of large files of the image, made while others are served: whoever is to write to such a
 * file is told to ask again, until its copy is there.
 *
 * A copy has a name of its own, and nothing refers to it, until it is taken: a server that is killed
 * leaves the layer as it was.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'

import type { NodeId } from '../protocols/nfs/file-system.ts'
import { copyBeginning } from './copy-file.ts'
import { asFailure, failure } from './failure.ts'
import type { Floor } from './floor.ts'

export interface Copies {
  /**
   * @param open opens the file to be read
   * @param bytes how many of the file's first bytes the copy must have
   * @returns the path of the finished copy, which is the caller's from now on
   * @throws `EAGAIN` while it is made, or why it cannot be made
   */
  take(node: NodeId, open: () => number, bytes: number): string
  /** Whether it is made, or is there. */
  has(node: NodeId): boolean
  /** Nobody wants a copy of this node any more. */
  drop(node: NodeId): void
  /** Ends all of them. */
  close(): Promise<void>
}

interface Copy {
  bytes: number
  path: string
  isReady: boolean
  /** Why it could not be made. */
  error?: unknown
  stop: AbortController
  ended: Promise<void>
}

/** In this process at a time: they share the disk, and the threads that wait for it. */
const maxRunning = 2
/** Of one layer, those included that have ended, well or not, and were not asked for since. */
const maxOfLayer = 16

let running = 0
const queue = new Set<PromiseWithResolvers<void>>()

export function isCopy(name: string): boolean {
  return name.startsWith('copy-')
}

/** @param folder where they are made */
export function createCopies(folder: string, floor: Floor): Copies {
  const copies = new Map<NodeId, Copy>()
  const ending = new Set<Promise<void>>()
  let made = 0

  function drop(node: NodeId): void {
    const copy = copies.get(node)
    if (!copy) return
    copies.delete(node)
    copy.stop.abort()
    const removed = copy.ended
      .then(() => rm(copy.path, { force: true }))
      // What is left goes when the layer is opened again.
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
    const copy: Copy = { bytes, path, isReady: false, stop, ended: Promise.resolve() }
    copies.set(node, copy)
    const beforePiece = (piece: number) => {
      stop.signal.throwIfAborted()
      floor.take(piece)
    }
    copy.ended = inTurn(stop.signal, () => copyBeginning(open, path, bytes, beforePiece)).then(
      () => void (copy.isReady = true),
      (error: unknown) => void (copy.error = error),
    )
  }

  return {
    drop,
    has: (node) => copies.has(node),
    take(node, open, bytes) {
      const known = copies.get(node)
      if (known?.error !== undefined) {
        drop(node)
        throw asFailure(known.error)
      }
      if (known?.isReady && known.bytes >= bytes) {
        copies.delete(node)
        return known.path
      }
      if (known && known.bytes < bytes) drop(node)
      if (!copies.has(node)) start(node, open, bytes)
      throw failure('EAGAIN', `the data of node ${node} are being copied`)
    },
    async close() {
      for (const node of [...copies.keys()]) drop(node)
      await Promise.all(ending)
    },
  }
}

/** Waits until there are not too many. */
async function inTurn(signal: AbortSignal, copy: () => Promise<void>): Promise<void> {
  if (running >= maxRunning) {
    await turn(signal)
  } else {
    running++
  }
  try {
    signal.throwIfAborted()
    await copy()
  } finally {
    const [next] = queue
    if (next) {
      queue.delete(next)
      next.resolve()
    } else {
      running--
    }
  }
}

async function turn(signal: AbortSignal): Promise<void> {
  const waiting = Promise.withResolvers<void>()
  queue.add(waiting)
  const leave = () => {
    queue.delete(waiting)
    waiting.reject(signal.reason)
  }
  signal.addEventListener('abort', leave, { once: true })
  try {
    await waiting.promise
  } finally {
    signal.removeEventListener('abort', leave)
  }
}
