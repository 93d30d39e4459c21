/** Finds what has changed in a site since it was added, so that it can be replaced. */
import { renameSync } from 'node:fs'
import { join } from 'node:path'

import { NetimageError } from '../../errors.ts'
import { imageLayout, lockName } from '../../image/layout.ts'
import { storedAt, type SitePlaces } from '../../image/site-places.ts'
import { differences } from '../../image/verify.ts'
import { tryLock, type Lock } from '../../lock.ts'
import type { PathInfo } from '../../nix/path-info.ts'
import { allOrNone, watchBytes } from '../../pool/fill.ts'
import type { Workers } from '../../pool/workers.ts'
import { plural, type Progress } from '../../progress.ts'
import { listTree } from '../../tree-files.ts'
import { nameForRemoved } from './changing.ts'
import { readSiteManifest } from './site-image.ts'

/** @returns the store paths that have other contents now, or cannot be read */
export async function findChanged(
  paths: readonly PathInfo[],
  places: SitePlaces,
  { workers, signal, progress }: { workers: Workers; signal: AbortSignal; progress: Progress },
): Promise<PathInfo[]> {
  const changed: PathInfo[] = []
  const bytes = paths.reduce((sum, { narSize }) => sum + narSize, 0)
  const task = progress.begin('checking store paths of the site', { paths: paths.length, bytes })
  const counts = { paths: 0 }
  await watchBytes(workers, task, counts, () =>
    allOrNone(paths, Math.max(paths.length, 1), async (info) => {
      signal.throwIfAborted()
      const { narHash, narSize } = info
      const tree = storedAt(places, narHash)
      const isWhole = await workers
        .run({ kind: 'check', tree, narHash, narSize })
        .catch(() => signal.throwIfAborted())
      if (isWhole !== true) changed.push(info)
      counts.paths++
    }),
  )
  task.end(`checked ${plural(paths.length, 'store path')}; changed: ${changed.length}`)
  return changed
}

/** Whether the image has the manifest of this id, and all else but the store paths is as it says. */
export async function isRestWhole(places: SitePlaces, id: string): Promise<boolean> {
  const directory = join(places.images, id)
  try {
    const { manifest, options } = readSiteManifest(directory, id)
    const layout = imageLayout(directory, options.rootDirectoryName)
    for (const part of ['root', 'boot'] as const) {
      const files = await listTree(layout[part], () => false)
      if ([...differences(manifest[part].files, files)].length > 0) return false
    }
    return true
  } catch {
    // What cannot be read is replaced.
    return false
  }
}

/**
 * Keeps servers from opening images until `release`: files of the store must not be replaced under
 * machines that have them open.
 *
 * @param ids all images of the site
 * @param changed what is to be replaced, for the error
 * @throws `NetimageError` `in-use`
 */
export function lockAll(
  { images }: SitePlaces,
  ids: readonly string[],
  changed: readonly string[],
): Lock {
  const locks: Lock[] = []
  const release = () => {
    for (const lock of locks.splice(0)) lock.release()
  }
  try {
    for (const id of ids) {
      const lock = tryLock(join(images, id, lockName), 'exclusive')
      if (!lock) throw inUse(images, changed)
      locks.push(lock)
    }
    return { release }
  } catch (error) {
    release()
    throw error
  }
}

function inUse(images: string, changed: readonly string[]): NetimageError {
  const [first = '', ...others] = changed
  const more = others.length === 0 ? '' : ` and ${others.length} more`
  return new NetimageError(
    'in-use',
    `${first}${more} changed in the site and cannot be replaced, because a server uses ${images}`,
    {
      details: { file: images },
      hint: 'Stop the server, run this again, and start the server. Machines that run wait meanwhile.',
    },
  )
}

/**
 * Gives `place` to `unfinished`. If this process is killed in between, nothing has the place, and the
 * next `site add` fills it.
 *
 * @param parent the directory of both
 */
export function replace(parent: string, place: string, unfinished: string): void {
  renameSync(place, nameForRemoved(parent))
  renameSync(unfinished, place)
}
