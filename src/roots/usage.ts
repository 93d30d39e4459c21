/** How much of the disk the files of a layer take. */
import { lstatSync, type Stats } from 'node:fs'
import { join } from 'node:path'

import { namesIn } from './names-in.ts'
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { doNow, type Steps } from './steps.ts'

/** Counts data files without looking at all of them. */
export interface Usage {
  /** The data file of the node is new or may have changed. */
  note(node: NodeId, stat: Pick<Stats, 'size' | 'blocks' | 'blksize'>): void
  /** The data file of the node is gone. */
  forget(node: NodeId): void
  /** Bytes on the disk. */
  all(): number
}

export function countUsage(): Usage {
  const files = new Map<NodeId, number>()
  let all = 0

  function put(node: NodeId, bytes: number): void {
    all += bytes - (files.get(node) ?? 0)
    if (bytes === 0) files.delete(node)
    else files.set(node, bytes)
  }

  return {
    note: (node, stat) => put(node, bytesOnDisk(stat)),
    forget: (node) => put(node, 0),
    all: () => all,
  }
}

/**
 * A file with holes takes less than its size. XFS gives a file that grows some blocks beyond its end
 * and takes them back later, without a sign of it. So blocks beyond the end do not count.
 */
function bytesOnDisk({
  size,
  blocks,
  blksize,
}: Pick<Stats, 'size' | 'blocks' | 'blksize'>): number {
  return Math.min(blocks * 512, Math.ceil(size / blksize) * blksize)
}

/** @returns bytes on the disk of the files in the directory, without what is below them */
export function measureFiles(directory: string): number {
  return doNow(measureInSteps(directory))
}

/** As `measureFiles`. */
export function* measureInSteps(directory: string): Steps<number> {
  let sum = 0
  for (const name of namesIn(directory)) {
    const stat = lstatSync(join(directory, name), { throwIfNoEntry: false })
    sum += (stat?.blocks ?? 0) * 512
    yield
  }
  return sum
}
