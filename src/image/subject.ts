/** Opens the image or the system that a person names. */
import { existsSync, lstatSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { closureInfos, resolveClosure, type ClosurePath } from '../nix/closure.ts'
import type { PathInfo } from '../nix/path-info.ts'
import { baseNameOf, type StorePath } from '../nix/store-path.ts'
import { openStores, type StoreChoice } from '../nix/stores/choose.ts'
import { findSystemPath } from '../nixos/name-system.ts'
import { storeFilesIn, type TreeOf } from '../nixos/store-files.ts'
import { readSystem, type System } from '../nixos/system.ts'
import { fillPool } from '../pool/fill.ts'
import { defaultPoolDirectory, openPool } from '../pool/pool.ts'
import { startWorkers } from '../pool/workers.ts'
import { silentProgress, type Progress } from '../progress.ts'
import type { KnownSecrets } from '../check/input.ts'
import { isPublic } from '../check/public-paths.ts'
import type { ConfiguredRequest } from './config.ts'
import { readHost } from './host.ts'
import { knownSecrets } from './known-secrets.ts'
import { imageLayout, manifestName, type ImageLayout } from './layout.ts'
import { readImage, type ReadImage } from './manifest.ts'

export interface SubjectRequest extends StoreChoice {
  /** A system, as for `build`, or an image. */
  subject: string
  pool?: string
  signal?: AbortSignal
  progress?: Progress
}

export interface Subject {
  system: System
  closure: readonly PathInfo[]
  /** Fetches a store path that is not on this machine yet. */
  treeOf: TreeOf
  /** Fetches many trees at once, and shows the progress. */
  prefetch: (paths: readonly StorePath[]) => Promise<void>
  /** Not set if the subject is an image. */
  knownSecrets?: KnownSecrets
  /** The options of netimage's module, if the system is a host of a flake that has the module. */
  settings?: ConfiguredRequest | undefined
  /** Only if the subject is an image. */
  image?: ReadImage & { layout: ImageLayout }
}

/** Opens the subject, and closes it when `use` has ended. */
export async function withSubject<T>(
  request: SubjectRequest,
  use: (subject: Subject) => Promise<T> | T,
): Promise<T> {
  const directory = resolve(request.subject)
  if (existsSync(join(directory, manifestName))) return await use(await openImage(directory))
  return await withSystem(request, use)
}

async function openImage(directory: string): Promise<Subject> {
  const image = await readImage(directory)
  const layout = imageLayout(directory, image.options.rootDirectoryName)
  const treeOf: TreeOf = (path) => {
    const tree = join(layout.store, baseNameOf(path))
    const isThere = lstatSync(tree, { throwIfNoEntry: false }) !== undefined
    return Promise.resolve(isThere ? tree : undefined)
  }
  const { system, closure } = image
  return { system, closure, treeOf, prefetch: async () => {}, image: { ...image, layout } }
}

async function withSystem<T>(
  request: SubjectRequest,
  use: (subject: Subject) => Promise<T> | T,
): Promise<T> {
  const signal = request.signal ?? new AbortController().signal
  const progress = request.progress ?? silentProgress
  // Only these roots keep Nix's garbage collector from the paths that Nix builds for this.
  using roots = new DisposableStack()
  const host = await readHost(request.subject, roots, signal, progress)
  const toplevel = host?.toplevel ?? (await findSystemPath(request.subject, roots, signal))
  const access = await openStores(request, (message) => progress.warn(message), signal)
  const warn = (message: string) => progress.warn(message)
  const pool = await openPool(request.pool ?? defaultPoolDirectory(), warn, signal)
  const workers = startWorkers(signal)
  try {
    const closure = await resolveClosure([toplevel], access, signal, () => undefined)
    const isSearched = (info: PathInfo) => !isPublic(info)
    const fill = (entries: readonly ClosurePath[], progress: Progress) =>
      fillPool(entries, { pool, workers, access, signal, progress, isSearched })
    const quiet = { ...silentProgress, warn: (message: string) => progress.warn(message) }
    // Fetches single paths on demand, because a few small paths describe a system.
    const treeOf = async (path: StorePath) => {
      const entry = closure.get(path)
      if (!entry) return undefined
      const filled = (await fill([entry], quiet)).get(path)
      return filled && pool.treePath(filled.info)
    }
    const prefetch = async (paths: readonly StorePath[]) => {
      const entries = paths.map((path) => closure.get(path)).filter((entry) => entry !== undefined)
      await fill(entries, progress)
    }
    const system = await readSystem(storeFilesIn(treeOf), toplevel)
    const infos = closureInfos(closure)
    const known = knownSecrets(closure, pool)
    const settings = host?.settings
    return await use({ system, closure: infos, treeOf, prefetch, knownSecrets: known, settings })
  } finally {
    await workers.close()
    pool.close()
    await Promise.all(access.stores.map((store) => store.close()))
  }
}
