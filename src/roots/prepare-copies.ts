/**
 * Copies that a binding needs and that would take long. They are made before the layer is bound, while
 * the server goes on to serve. Then the binding only gives them their names: see bind-data.ts.
 */
import { closeSync, existsSync, renameSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'

import { fileSystemError } from '../errors.ts'
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { cloneFile, copyBeginning, copyFile } from './copy-file.ts'
import { openFloor, type Floor } from './floor.ts'
import { syncFiles } from './sync-files.ts'
import { doInPieces, nextPiece, type Steps } from './steps.ts'
import { UnreadyLayer } from './unready-layer.ts'

export interface NeededCopy {
  /** A file of a store path. The bytes of a node of a store path never change. */
  node: NodeId
  bytes: number
  /** To be done before `open`. */
  prepare: () => Steps
  /** Opens the file for reading. */
  open: () => number
}

/** A layer cannot be bound before these copies are made. It is as before. */
export class UnpreparedCopies extends UnreadyLayer {
  readonly copies: readonly NeededCopy[]
  /** The data of the layer. */
  readonly folder: string
  constructor(folder: string, copies: readonly NeededCopy[]) {
    super(`${copies.length} files must be copied first`)
    this.folder = folder
    this.copies = copies
  }

  makeReady(end: AbortSignal, stop = end): Promise<void> {
    return prepareCopies(this, AbortSignal.any([end, stop]))
  }
}

/** The path of the copy. Its name is that of a copy which is removed if nothing needs it. */
export function preparedCopy(folder: string, node: NodeId): string {
  return join(folder, `copy-bind-${node.toString(16)}`)
}

/**
 * Smaller files are copied at once, one after the other, and synced together: syncing each, and even
 * waiting for each step, takes much longer than copying it. Bytes.
 */
const large = 2 ** 20
/** The most small copies that are synced together: other syncs wait for them. */
const most = { files: 1000, bytes: 64 * 2 ** 20 }

/**
 * Copies that are there already are not made again. After an error, the finished ones stay.
 *
 * @throws the reason of the signal; `NetimageError` `disk-full`, `file-system`, `image-damaged`
 */
async function prepareCopies(needed: UnpreparedCopies, signal: AbortSignal): Promise<void> {
  const { folder } = needed
  const unnamed = new Set<NodeId>()
  let bytes = 0

  /** Gives copies their names once their data is on the disk. */
  async function nameCopies(): Promise<void> {
    const nodes = [...unnamed]
    unnamed.clear()
    bytes = 0
    if (nodes.length === 0) return
    await syncFiles(folder, () => nodes.map((node) => basename(partOf(folder, node))))
    for (const node of nodes) renameSync(partOf(folder, node), preparedCopy(folder, node))
  }

  async function copyAll(): Promise<void> {
    const floor = openFloor(folder)
    for (const copy of needed.copies) {
      await nextPiece()
      signal.throwIfAborted()
      if (existsSync(preparedCopy(folder, copy.node))) continue
      await makePart(folder, copy, signal, floor)
      unnamed.add(copy.node)
      bytes += copy.bytes
      if (unnamed.size >= most.files || bytes >= most.bytes) await nameCopies()
    }
  }

  try {
    try {
      await copyAll()
    } finally {
      await nameCopies()
    }
  } catch (error) {
    if (signal.aborted) throw error
    throw fileSystemError(`could not copy files of an image to ${folder}`, error, {
      hint: 'Make room on that disk, or repair it. The layer has not lost anything.',
    })
  } finally {
    needed.held.dispose()
  }
}

/** The path of a copy that may be unfinished, or not on the disk. */
function partOf(folder: string, node: NodeId): string {
  return `${preparedCopy(folder, node)}-part`
}

async function makePart(
  folder: string,
  { node, bytes, prepare, open }: NeededCopy,
  signal: AbortSignal,
  floor: Floor,
): Promise<void> {
  const part = partOf(folder, node)
  rmSync(part, { force: true })
  floor.take(bytes > large ? 0 : bytes, 1)
  await doInPieces(prepare(), signal)
  const source = open()
  try {
    if (bytes <= large) copyFile(source, part, bytes, 'later')
    if (bytes <= large || cloneFile(source, part, 'later')) return
  } finally {
    closeSync(source)
  }
  await copyBeginning(open, part, bytes, (piece) => {
    signal.throwIfAborted()
    floor.take(piece)
  })
}
