/** The jobs of the worker threads. Each job is about one store path. */
import type { ContentCheck } from '../nix/content-address.ts'
import type { Hash } from '../nix/hash.ts'
import type { NarSource } from '../nix/nar-source.ts'
import { tidy } from '../tidy.ts'
import type { MemoryClaim } from './decoder-memory.ts'
import { placeTree, TouchedTree, type PlaceMethod } from './place.ts'
import type { NarExpectation } from './receive.ts'

export type Job = ReceiveJob | PlaceJob | AdoptJob | CheckJob | ContentJob

/** Unpacks and verifies a NAR, and makes an entry of the pool from it. */
export interface ReceiveJob {
  kind: 'receive'
  source: NarSource
  expected: NarExpectation
  /** Whether to look for secrets while unpacking. */
  search: boolean
  /** A new directory for the unfinished entry. */
  scratch: string
  /** The path of the finished entry. */
  entry: string
}

/** Places the tree of an entry in an image. */
export interface PlaceJob {
  kind: 'place'
  tree: string
  target: string
  method: PlaceMethod
  narSize: number
}

/** Makes a tree from one that somebody else may change, and hashes the new tree. */
export interface AdoptJob {
  kind: 'adopt'
  tree: string
  /** If the new tree is not whole, it is removed again. */
  target: string
  method: PlaceMethod
  narHash: Hash
  narSize: number
}

/** Hashes a tree again. */
export interface CheckJob {
  kind: 'check'
  tree: string
  narHash: Hash
  narSize: number
}

/** Checks a tree against a content address. */
export interface ContentJob {
  kind: 'content'
  tree: string
  content: ContentCheck
}

/** Whether the tree is whole; always true for `receive`, which throws otherwise. */
export type JobResult = boolean

/** Loads only what the job needs: each thread loads it again, and a build with a full pool only places. */
export async function runJob(
  job: Job,
  progress: (bytes: number) => void,
  memory: MemoryClaim,
): Promise<JobResult> {
  switch (job.kind) {
    case 'receive': {
      const { receive } = await import('./receive-job.ts')
      await receive(job, progress, memory)
      return true
    }
    case 'place':
      return place(job, progress)
    case 'adopt':
      return adopt(job, progress)
    case 'check': {
      const { treeMatches } = await import('./check-tree.ts')
      return treeMatches(job.tree, job.narHash, job.narSize, progress)
    }
    case 'content': {
      const { contentMatches } = await import('./check-tree.ts')
      return contentMatches(job.tree, job.content)
    }
  }
}

function place(job: PlaceJob, progress: (bytes: number) => void): boolean {
  try {
    placeTree(job.tree, job.target, job.method)
  } catch (error) {
    if (!(error instanceof TouchedTree)) throw error
    tidy(job.target, () => undefined)
    return false
  }
  progress(job.narSize)
  return true
}

async function adopt(job: AdoptJob, progress: (bytes: number) => void): Promise<boolean> {
  const [{ adoptTree }, { treeMatches }] = await Promise.all([
    import('./adopt.ts'),
    import('./check-tree.ts'),
  ])
  let isWhole = false
  try {
    adoptTree(job.tree, job.target, job.method)
    isWhole = treeMatches(job.target, job.narHash, job.narSize, progress)
    return isWhole
  } finally {
    if (!isWhole) tidy(job.target, () => undefined)
  }
}
