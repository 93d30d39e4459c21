/**
 * Copies that a binding needs and that would take long. They are made before the layer is bound, while
 * the server goes on to serve. Then the binding only gives them their names: see bind-data.ts.
 */
import { closeSync, existsSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { fileSystemError } from '../errors.ts'
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { cloneFile, copyBeginning } from './copy-file.ts'
import { openFloor, type Floor } from './floor.ts'

export interface NeededCopy {
  /** A file of a store path. The bytes of a node of a store path never change. */
  node: NodeId
  bytes: number
  /** Opens the file for reading. */
  open: () => number
}

/** A layer cannot be bound before these copies are made. It is as before. */
export class UnpreparedCopies extends Error {
  readonly copies: readonly NeededCopy[]
  /** The data of the layer. */
  readonly folder: string
  /** What must stay open or locked until the copies are made. `prepareCopies` disposes of it. */
  readonly held = new DisposableStack()

  constructor(folder: string, copies: readonly NeededCopy[]) {
    super(`${copies.length} files must be copied first`)
    this.folder = folder
    this.copies = copies
  }
}

/** The path of the copy. Its name is that of a copy which is removed if nothing needs it. */
export function preparedCopy(folder: string, node: NodeId): string {
  return join(folder, `copy-bind-${node.toString(16)}`)
}

/**
 * Copies that are there already are not made again. After an error, the finished ones stay.
 *
 * @throws the reason of the signal; `NetimageError` `disk-full`, `file-system`, `image-damaged`
 */
export async function prepareCopies(needed: UnpreparedCopies, signal: AbortSignal): Promise<void> {
  try {
    const floor = openFloor(needed.folder)
    for (const copy of needed.copies) {
      // Also lets the server answer others if the file system clones the file at once.
      await new Promise<void>((resolve) => void setImmediate(resolve))
      signal.throwIfAborted()
      await prepareCopy(needed.folder, copy, signal, floor)
    }
  } catch (error) {
    if (signal.aborted) throw error
    throw fileSystemError(`could not copy files of an image to ${needed.folder}`, error, {
      hint: 'Make room on that disk, or repair it. The layer has not lost anything.',
    })
  } finally {
    needed.held.dispose()
  }
}

async function prepareCopy(
  folder: string,
  { node, bytes, open }: NeededCopy,
  signal: AbortSignal,
  floor: Floor,
): Promise<void> {
  const path = preparedCopy(folder, node)
  if (existsSync(path)) return
  const part = `${path}-part`
  await rm(part, { force: true })
  floor.take(0, 1)
  if (!isCloned(open, part)) {
    await copyBeginning(open, part, bytes, (piece) => {
      signal.throwIfAborted()
      floor.take(piece)
    })
  }
  await rename(part, path)
}

function isCloned(open: () => number, to: string): boolean {
  const source = open()
  try {
    return cloneFile(source, to)
  } finally {
    closeSync(source)
  }
}
