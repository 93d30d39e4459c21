/** The job that makes an entry of the pool from a NAR. */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { errnoOf, fileSystemError } from '../errors.ts'
import type { Hash } from '../nix/hash.ts'
import { discard } from '../nix/nar-source.ts'
import { tidy } from '../tidy.ts'
import { treeMatches } from './check-tree.ts'
import type { MemoryClaim } from './decoder-memory.ts'
import { entryFile, formatEntry, treeName } from './entry.ts'
import type { ReceiveJob } from './jobs.ts'
import { receiveNar } from './receive.ts'
import { setAsideDamaged } from './removal.ts'

export async function receive(
  job: ReceiveJob,
  progress: (bytes: number) => void,
  memory: MemoryClaim,
): Promise<void> {
  const { scratch, source, expected, search } = job
  try {
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
