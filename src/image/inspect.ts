/** Tells what a system or an image is: label, platform, kernel, closure, root file system. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { findRootMount, type RootMount } from '../boot/kernel-line.ts'
import { resolveClosure } from '../nix/closure.ts'
import type { PathInfo } from '../nix/path-info.ts'
import type { StorePath } from '../nix/store-path.ts'
import { openStores, type StoreChoice } from '../nix/stores/choose.ts'
import type { FileSystem } from '../nixos/fstab.ts'
import { findSystemPath } from '../nixos/name-system.ts'
import { parseNfsRoot, type NfsRoot } from '../nixos/nfs-root.ts'
import { readSystem, type System } from '../nixos/system.ts'
import { fillPool } from '../pool/fill.ts'
import { defaultPoolDirectory, openPool } from '../pool/pool.ts'
import { startWorkers } from '../pool/workers.ts'
import { silentProgress, type Progress } from '../progress.ts'
import { manifestName } from './layout.ts'
import { readImage } from './manifest.ts'

export interface Inspection {
  kind: 'system' | 'image'
  system: System
  /** What is mounted at `/`; undefined where the system's fstab names nothing. */
  rootFileSystem: FileSystem | undefined
  /** Who mounts the root: stage 1, or the kernel line's `root=`; and why. */
  rootMount: RootMount | undefined
  closure: {
    paths: number
    /** NAR bytes. */
    bytes: number
    /** The ten largest. */
    largest: { path: StorePath; narSize: number }[]
  }
  /** Of an image only. */
  image?: {
    rootDirectoryName: string
    nfsRoot: NfsRoot
    format: 'directory' | 'tar'
    /** Files in the boot tree. */
    bootFiles: number
  }
}

export interface InspectRequest extends StoreChoice {
  /** A system, as `build` takes it, or an image. */
  subject: string
  pool?: string
  signal?: AbortSignal
  progress?: Progress
}

const largestShown = 10

export async function inspect(request: InspectRequest): Promise<Inspection> {
  const directory = resolve(request.subject)
  if (existsSync(join(directory, manifestName))) return await inspectImage(directory)
  return await inspectSystem(request)
}

async function inspectImage(directory: string): Promise<Inspection> {
  const { system, manifest, options, closure } = await readImage(directory)
  return {
    kind: 'image',
    ...describe(system, closure),
    image: {
      rootDirectoryName: options.rootDirectoryName,
      nfsRoot: parseNfsRoot(options.nfsRoot),
      format: manifest.root.format,
      bootFiles: manifest.boot.files.filter((file) => file.type !== 'directory').length,
    },
  }
}

async function inspectSystem(request: InspectRequest): Promise<Inspection> {
  const signal = request.signal ?? new AbortController().signal
  const progress = request.progress ?? silentProgress
  const toplevel = await findSystemPath(request.subject, signal)
  const access = await openStores(request, (message) => progress.warn(message))
  const pool = openPool(request.pool ?? defaultPoolDirectory())
  const workers = startWorkers(signal)
  try {
    const closure = await resolveClosure([toplevel], access, signal, () => undefined)
    const quiet = { ...silentProgress, warn: (message: string) => progress.warn(message) }
    // Only what is looked at is fetched: a system says what it is in a few small paths.
    const treeOf = async (path: StorePath) => {
      const entry = closure.get(path)
      if (!entry) return undefined
      await fillPool([entry], { pool, workers, access, signal, progress: quiet })
      return pool.treePath(entry.info)
    }
    const system = await readSystem(treeOf, toplevel)
    return {
      kind: 'system',
      ...describe(
        system,
        [...closure.values()].map(({ info }) => info),
      ),
    }
  } finally {
    await workers.close()
    pool.close()
    await Promise.all(access.stores.map((store) => store.close()))
  }
}

function describe(system: System, closure: readonly PathInfo[]) {
  const largest = [...closure].sort((a, b) => b.narSize - a.narSize).slice(0, largestShown)
  const [main] = system.entries
  return {
    system,
    rootMount: main && findRootMount(main, system.fileSystems),
    rootFileSystem: system.fileSystems.find(({ mountPoint }) => mountPoint === '/'),
    closure: {
      paths: closure.length,
      bytes: closure.reduce((sum, { narSize }) => sum + narSize, 0),
      largest: largest.map(({ path, narSize }) => ({ path, narSize })),
    },
  }
}
