/** The jobs of the worker threads. Each job is about one store path. */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { errnoOf, fileSystemError } from '../errors.ts'
import type { ContentCheck } from '../nix/content-address.ts'
import type { Hash } from '../nix/hash.ts'
import { discard, type NarSource } from '../nix/nar-source.ts'
import { tidy } from '../tidy.ts'
import { adoptTree } from './adopt.ts'
import { contentMatches, treeMatches } from './check-tree.ts'
import type { MemoryClaim } from './decoder-memory.ts'
import { entryFile, formatEntry, treeName } from './entry.ts'
import { placeTree, TouchedTree, type PlaceMethod } from './place.ts'
import type { NarExpectation } from './receive.ts'
import { setAsideDamaged } from './removal.ts'

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

export async function runJob(
  job: Job,
  progress: (bytes: number) => void,
  memory: MemoryClaim,
): Promise<JobResult> {
  switch (job.kind) {
    case 'receive':
      await receive(job, progress, memory)
      return true
    case 'place':
      return place(job, progress)
    case 'adopt':
      return adopt(job, progress)
    case 'check':
      return treeMatches(job.tree, job.narHash, job.narSize, progress)
    case 'content':
      return contentMatches(job.tree, job.content)
  }
}

async function receive(
  job: ReceiveJob,
  progress: (bytes: number) => void,
  memory: MemoryClaim,
): Promise<void> {
  const { scratch, source, expected, search } = job
  try {
    // Load decompression only here: a build with a full pool does not need it.
    const { receiveNar } = await import('./receive.ts')
    mkdirSync(scratch)
    const tree = join(scratch, treeName)
    const secrets = await receiveNar(source, tree, expected, search, progress, memory)
    writeFileSync(join(scratch, entryFile), formatEntry({ narSize: expected.narSize, secrets }))
    appear(job)
  } catch (error) {
    tidy(scratch, quietly)
    throw fileSystemError(`could not unpack ${expected.path}`, error)
  } finally {
    discard(source)
  }
}

/** No warning here: the end of the build removes its whole scratch directory. */
const quietly = () => undefined

/** Renames the finished entry into the pool. */
function appear({ scratch, entry, expected }: ReceiveJob): void {
  try {
    renameSync(scratch, entry)
    return
  } catch (error) {
    const errno = errnoOf(error)
    if (errno !== 'ENOTEMPTY' && errno !== 'EEXIST') throw error
  }
  // Usually another build has finished the same path first and already uses the entry. But this
  // build has not verified that entry, so hash it.
  const { narHash, narSize } = expected
  if (isWhole(join(entry, treeName), narHash, narSize)) tidy(scratch, quietly)
  else {
    setAsideDamaged(entry, dirname(scratch))
    renameSync(scratch, entry)
  }
}

function isWhole(tree: string, narHash: Hash, narSize: number): boolean {
  try {
    return treeMatches(tree, narHash, narSize, quietly)
  } catch {
    // Treat a tree that cannot be read like a damaged one.
    return false
  }
}

function place(job: PlaceJob, progress: (bytes: number) => void): boolean {
  try {
    placeTree(job.tree, job.target, job.method)
  } catch (error) {
    if (!(error instanceof TouchedTree)) throw error
    tidy(job.target, quietly)
    return false
  }
  progress(job.narSize)
  return true
}

function adopt(job: AdoptJob, progress: (bytes: number) => void): boolean {
  let isWhole = false
  try {
    adoptTree(job.tree, job.target, job.method)
    isWhole = treeMatches(job.target, job.narHash, job.narSize, progress)
    return isWhole
  } finally {
    if (!isWhole) tidy(job.target, quietly)
  }
}
