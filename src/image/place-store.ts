/** Makes the store of a root tree from the pool. */
import { constants, copyFileSync, linkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { isDiskFull, NetimageError } from '../errors.ts'
import { closureInfos, type Closure } from '../nix/closure.ts'
import { baseNameOf } from '../nix/store-path.ts'
import { allOrNone, watchBytes } from '../pool/fill.ts'
import type { PlaceMethod } from '../pool/place.ts'
import type { PoolContext } from '../pool/context.ts'
import type { Pool } from '../pool/pool.ts'
import { plural, type Progress } from '../progress.ts'

/**
 * @param store the directory that gets a tree for each path of the closure
 * @param wanted how to place files if the file system cannot clone them
 */
export async function placeStore(
  closure: Closure,
  store: string,
  wanted: 'hardlink' | 'copy',
  { pool, workers, signal, progress }: PoolContext,
): Promise<void> {
  const method = choosePlaceMethod(pool, store, wanted, progress)
  // The largest first. At the end, all workers would wait for one large path.
  const infos = closureInfos(closure).sort((a, b) => b.narSize - a.narSize)
  const bytes = infos.reduce((sum, info) => sum + info.narSize, 0)
  const task = progress.begin('placing the closure', { paths: infos.length, bytes })
  const counts = { paths: 0 }
  await watchBytes(workers, task, counts, () =>
    allOrNone(infos, infos.length, async (info) => {
      signal.throwIfAborted()
      const { narSize } = info
      const tree = pool.treePath(info)
      const target = join(store, baseNameOf(info.path))
      const whole = await workers.run({ kind: 'place', tree, target, method, narSize })
      if (!whole) {
        pool.discard(info)
        throw new NetimageError('hash-mismatch', `the pool’s copy of ${info.path} was changed`, {
          details: { path: info.path },
          hint: 'netimage removed it from the pool: run the command again to fetch it. With --link hardlink, do not write to files of an image: this changes the pool.',
        })
      }
      counts.paths++
    }),
  )
  task.end(`placed ${plural(infos.length, 'path')} (${method})`)
}

/** Tries on one file what the file systems of the pool and the image can do. */
function choosePlaceMethod(
  pool: Pool,
  directory: string,
  wanted: 'hardlink' | 'copy',
  progress: Progress,
): PlaceMethod {
  const from = pool.newScratch()
  const to = join(directory, 'probe')
  writeFileSync(from, 'netimage')
  try {
    copyFileSync(from, to, constants.COPYFILE_FICLONE_FORCE)
    return 'reflink'
  } catch (error) {
    // File systems that cannot clone files give many different errors.
    if (isDiskFull(error)) throw error
  } finally {
    rmSync(to, { force: true })
  }
  if (wanted === 'copy' || canLink(from, to)) return wanted
  progress.warn('the pool and the image are on different file systems: files are copied')
  return 'copy'
}

function canLink(from: string, to: string): boolean {
  try {
    linkSync(from, to)
    rmSync(to)
    return true
  } catch {
    return false
  }
}
