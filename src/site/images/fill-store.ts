/** Takes the store paths of an image over into the store of a site. */
import { constants, copyFileSync, linkSync, lstatSync, renameSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'

import { errnoOf, isDiskFull, NetimageError } from '../../errors.ts'
import { syncFileSystem } from '../../image/sync.ts'
import type { PathInfo } from '../../nix/path-info.ts'
import { baseNameOf } from '../../nix/store-path.ts'
import { allOrNone, watchBytes } from '../../pool/fill.ts'
import type { PlaceMethod } from '../../pool/place.ts'
import { startWorkers, type Workers } from '../../pool/workers.ts'
import { plural, silentProgress, type Progress } from '../../progress.ts'
import { syncDirectory } from '../../sync-directory.ts'
import { sweep, unfinishedIn } from './changing.ts'
import { storedAt, type SitePlaces } from '../../image/site-places.ts'
import { findChanged, replace } from './repair.ts'
import type { SourceImage } from './source.ts'

export const adviceWithoutSync =
  'After a loss of power, remove the directories images and store of the state, and add the images again.'

/** What is finished in this many NAR bytes counts, even if the rest is interrupted. */
const batchBytes = 1024 ** 3

export interface FilledStore {
  /** How many store paths the site did not have. */
  added: number
  /** How many store paths had changed and were replaced. */
  repaired: number
  /** How their files got into the site; undefined if there were none. */
  method?: PlaceMethod
}

export interface Adding {
  signal: AbortSignal
  progress: Progress
  /** Whether to hash also what the site has, and to replace what has changed. */
  repair: boolean
  /** Keeps servers from opening images, before something is replaced. */
  lockSite: (changed: readonly string[]) => void
}

/**
 * Adds the store paths that the site does not have. Each is hashed before it counts.
 *
 * @throws `NetimageError` `image-damaged` if a store path is not as the manifest says
 */
export async function fillStore(
  source: SourceImage,
  places: SitePlaces,
  { signal, progress, repair, lockSite }: Adding,
): Promise<FilledStore> {
  const { present, missing } = sortPaths(source.closure, places)
  if (missing.length === 0 && !repair) return { added: 0, repaired: 0 }
  const workers = startWorkers(signal)
  try {
    const changed = repair ? await findChanged(present, places, { workers, signal, progress }) : []
    if (changed.length > 0) lockSite(changed.map(({ path }) => path))
    const wanted = [...missing, ...changed].sort((a, b) => b.narSize - a.narSize)
    const counts = { added: missing.length, repaired: changed.length }
    if (wanted.length === 0) return counts
    const filling = { source, places, workers, signal, changed: new Set(changed) }
    return { ...counts, method: await addPaths(wanted, filling, progress) }
  } finally {
    await workers.close()
    sweep(places, (message) => progress.warn(message))
  }
}

async function addPaths(
  wanted: readonly PathInfo[],
  filling: Omit<Filling, 'method'>,
  progress: Progress,
): Promise<PlaceMethod> {
  const { source, places, workers } = filling
  const bytes = wanted.reduce((sum, { narSize }) => sum + narSize, 0)
  const { method, whyCopied } = chooseMethod(source, places)
  if (whyCopied !== undefined) {
    progress.warn(`the site copies ${bytes} bytes of store paths, because ${whyCopied}`)
  }
  const task = progress.begin('adding store paths', { paths: wanted.length, bytes })
  const counts = { paths: 0 }
  await watchBytes(workers, task, counts, async () => {
    for (const batch of inBatches(wanted)) {
      await allOrNone(batch, batch.length, async (info) => {
        await adopt(info, { ...filling, method })
        counts.paths++
      })
      await publish(batch, filling, progress)
    }
  })
  task.end(`added ${plural(wanted.length, 'store path')} (${method})`)
  return method
}

interface Filling {
  source: SourceImage
  places: SitePlaces
  method: PlaceMethod
  workers: Workers
  signal: AbortSignal
  /** The paths whose places are taken. */
  changed: ReadonlySet<PathInfo>
}

/** One path for each NAR hash. */
export function sortPaths(
  closure: readonly PathInfo[],
  places: SitePlaces,
): { present: PathInfo[]; missing: PathInfo[] } {
  const byPlace = new Map(closure.map((info) => [storedAt(places, info.narHash), info]))
  const isThere = (place: string) => lstatSync(place, { throwIfNoEntry: false }) !== undefined
  const { present = [], missing = [] } = Object.groupBy(byPlace, ([place]) =>
    isThere(place) ? 'present' : 'missing',
  )
  return { present: present.map(([, info]) => info), missing: missing.map(([, info]) => info) }
}

/** @param paths the largest first, because at the end all workers wait for it */
function inBatches(paths: readonly PathInfo[]): PathInfo[][] {
  const batches: PathInfo[][] = []
  let bytes = Infinity
  for (const info of paths) {
    if (bytes + info.narSize > batchBytes) {
      batches.push([])
      bytes = 0
    }
    batches.at(-1)?.push(info)
    bytes += info.narSize
  }
  return batches
}

async function adopt(info: PathInfo, filling: Filling): Promise<void> {
  const { source, places, method, workers, signal } = filling
  signal.throwIfAborted()
  const { path, narHash, narSize } = info
  const tree = join(source.layout.store, baseNameOf(path))
  const target = unfinishedAt(places, info)
  if (!lstatSync(tree, { throwIfNoEntry: false })) throw damaged(source, info, 'is missing')
  const job = { kind: 'adopt', tree, target, method, narHash, narSize } as const
  let isWhole: boolean
  try {
    isWhole = await workers.run(job)
  } catch (error) {
    const isDamaged = error instanceof NetimageError && error.code === 'image-damaged'
    throw isDamaged ? damaged(source, info, 'has a file that is not a regular file') : error
  }
  if (!isWhole) throw damaged(source, info, 'has not the NAR hash and size of its manifest')
}

/** Where a store path is copied to, before `publish` gives it its place. */
function unfinishedAt(places: SitePlaces, { narHash }: PathInfo): string {
  return unfinishedIn(places.store, basename(storedAt(places, narHash)))
}

function damaged({ directory }: SourceImage, { path }: PathInfo, why: string): NetimageError {
  return new NetimageError('image-damaged', `${path} in the image ${directory} ${why}`, {
    details: { path, file: directory },
    hint: `Show all damage with: netimage verify ${directory}. Then build the image again.`,
  })
}

/**
 * After a loss of power, each path that has its name is whole.
 *
 * @param batch finished and hashed, at `unfinishedAt`
 */
async function publish(
  batch: readonly PathInfo[],
  { places, signal, changed }: Omit<Filling, 'method'>,
  progress: Progress,
): Promise<void> {
  await syncStore(places, signal, progress)
  for (const info of batch) {
    const [unfinished, place] = [unfinishedAt(places, info), storedAt(places, info.narHash)]
    if (changed.has(info)) replace(places.store, place, unfinished)
    else renameSync(unfinished, place)
  }
  syncDirectory(places.store)
}

/** Waits until all that is in the store is on the disk. */
export async function syncStore(
  { store }: SitePlaces,
  signal: AbortSignal,
  progress: Progress,
): Promise<void> {
  const quiet = { ...silentProgress, warn: (message: string) => progress.warn(message) }
  await syncFileSystem(store, signal, quiet, adviceWithoutSync)
}

/** Tries on the manifest what the file systems of the image and the site can do. */
function chooseMethod(
  { layout }: SourceImage,
  { store }: SitePlaces,
): { method: PlaceMethod; whyCopied?: string } {
  const probe = unfinishedIn(store, 'probe')
  try {
    copyFileSync(layout.manifest, probe, constants.COPYFILE_FICLONE_FORCE)
    return { method: 'reflink' }
  } catch (error) {
    // File systems that cannot clone files give many different errors.
    if (isDiskFull(error)) throw error
  } finally {
    rmSync(probe, { force: true })
  }
  try {
    linkSync(layout.manifest, probe)
    const { uid } = lstatSync(probe)
    if (uid === 0 || uid === process.geteuid?.()) return { method: 'hardlink' }
  } catch (error) {
    if (errnoOf(error) === 'EXDEV') {
      return { method: 'copy', whyCopied: 'the image and the site are on different file systems' }
    }
  } finally {
    rmSync(probe, { force: true })
  }
  return { method: 'copy', whyCopied: 'the files of the image belong to another user' }
}
