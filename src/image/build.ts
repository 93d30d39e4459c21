/** Builds a net image from a system that a person names. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

import type { BootRequest } from '../boot/request.ts'
import { bootFiles, defaultWays } from '../boot/ways.ts'
import { refuseCaseInsensitive } from '../case-sensitive.ts'
import { checkSystem, type CheckFinding } from '../check/check-system.ts'
import { isPublic } from '../check/public-paths.ts'
import { searchesStore } from '../check/rules.ts'
import { fileSystemError, NetimageError } from '../errors.ts'
import { closureInfos, resolveClosure, type Closure, type StoreAccess } from '../nix/closure.ts'
import type { PathInfo } from '../nix/path-info.ts'
import { formatRegistration } from '../nix/registration.ts'
import { storeDir, type StorePath } from '../nix/store-path.ts'
import { openStores } from '../nix/stores/choose.ts'
import { findSystemPath } from '../nixos/name-system.ts'
import { parseNfsRoot } from '../nixos/nfs-root.ts'
import { findStoreFile, storeFilesIn, type TreeOf } from '../nixos/store-files.ts'
import { readSystem, type System } from '../nixos/system.ts'
import type { PoolContext } from '../pool/context.ts'
import { fillPool } from '../pool/fill.ts'
import { defaultPoolDirectory, openPool, type Pool } from '../pool/pool.ts'
import { startWorkers } from '../pool/workers.ts'
import { plural, silentProgress, type Progress } from '../progress.ts'
import { removeTree } from '../remove-tree.ts'
import { bootOrigin, changedFiles, stampFiles, type BootOrigin } from './boot-origin.ts'
import { writeBootTree } from './boot-tree.ts'
import { hasCommands, obeyCommands, refuseOtherFiles } from './commands-obeyed.ts'
import { withHostSettings } from './host.ts'
import { knownSecrets } from './known-secrets.ts'
import { imageLayout, type ImageLayout } from './layout.ts'
import { formatManifest, manifestClosure, manifestVersion, type Manifest } from './manifest.ts'
import { normalizeTree } from './normalize.ts'
import { extraRoots, parseOptions, settleOptions, type NetImageOptions } from './options.ts'
import type { SettledOptions } from './options.ts'
import { placeStore } from './place-store.ts'
import type { BuildRequest } from './request.ts'
import { openStaging, refuseExisting } from './staging.ts'
import { syncFileSystem } from './sync.ts'
import { writeTar } from './tar.ts'
import { listTree } from '../tree-files.ts'

export interface BuiltImage {
  /** The absolute path of the image. */
  image: string
  manifest: Manifest
  /** Errors that will keep the image from booting, and other problems. */
  findings: CheckFinding[]
}

export async function buildNetImage(given: BuildRequest): Promise<BuiltImage> {
  const signal = given.signal ?? new AbortController().signal
  const progress = given.progress ?? silentProgress
  const force = given.force ?? false
  if (given.output !== undefined) await refuseExisting(resolve(given.output), force)

  const own = parseOptions(given.options ?? {}, 'the options')
  // Only these roots keep Nix's garbage collector from the paths that Nix builds for this.
  using roots = new DisposableStack()
  const request = await withHostSettings({ ...given, options: own }, roots, signal, progress)
  const options = request.options ?? {}
  const toplevel = await findSystemPath(request.system, roots, signal)
  const access = await openStores(request, (message) => progress.warn(message), signal)
  const workers = startWorkers(signal)
  let pool: Pool | undefined
  try {
    const found = await findClosure([toplevel, ...extraRoots(options)], access, signal, progress)
    const warn = (message: string) => progress.warn(message)
    pool = await openPool(request.pool ?? defaultPoolDirectory(), warn, signal)
    refuseCaseInsensitive(pool.directory, 'trees', { is: 'the pool', flag: '--pool' })
    const isSearched = searchesStore(request.silenced)
      ? (info: PathInfo) => !isPublic(info)
      : undefined
    const context: PoolContext = { access, pool, workers, signal, progress, isSearched }
    const closure = await fillPool(found.values(), context)
    return await buildFromPool(request, options, toplevel, closure, context)
  } catch (error) {
    if (signal.aborted) throw new NetimageError('interrupted', 'interrupted', { cause: error })
    throw error
  } finally {
    // Close the stores before the pool, because their transfers write to the pool.
    await Promise.all(access.stores.map((store) => store.close()))
    await workers.close()
    pool?.close()
  }
}

async function findClosure(
  roots: StorePath[],
  access: StoreAccess,
  signal: AbortSignal,
  progress: Progress,
): Promise<Closure> {
  const task = progress.begin('finding the closure')
  const done = { paths: 0, bytes: 0 }
  const closure = await resolveClosure(roots, access, signal, (info) => {
    done.paths++
    done.bytes += info.narSize
    task.update(done)
  })
  task.end(`found the closure: ${plural(done.paths, 'path')}`)
  return closure
}

async function buildFromPool(
  request: BuildRequest,
  given: NetImageOptions,
  toplevel: StorePath,
  closure: Closure,
  context: PoolContext,
): Promise<BuiltImage> {
  const system = await readSystem(storeFilesIn(treesOf(closure, context.pool)), toplevel)
  const options = settleOptions(given, system)
  const image = resolve(request.output ?? options.rootDirectoryName)
  const staging = await openStaging(image, request.force ?? false, (message) =>
    context.progress.warn(message),
  )
  try {
    const layout = imageLayout(staging.image, options.rootDirectoryName)
    makeFolders(layout)
    // A tree that becomes an archive can share files with the pool if no commands write to it.
    const canShare = request.format === 'tar' && !hasCommands(options)
    const link = request.link ?? (canShare ? 'hardlink' : 'copy')
    await placeStore(closure, layout.store, link, context)
    const made = await makeBootTree(request, system, options, closure, layout, context)
    const stamps = stampFiles(layout.boot)
    writeForAll(layout.registration, formatRegistration(closureInfos(closure)))
    await obeyCommands(options, { closure, layout, staging }, context)
    // The Nix store does not keep all modes of files, but it keeps an archive as it is.
    const isForStore = image.startsWith(`${storeDir}/`)
    const storeModes = isForStore && request.format !== 'tar'
    made.fromCommands = changedFiles(layout.boot, stamps)
    normalizeTree(layout.root, { skip: layout.store, storeModes })
    normalizeTree(layout.boot, { storeModes: isForStore })
    const manifest = await describeImage(system, options, closure, layout, made)
    const findings = await checkImage(request, manifest, system, closure, layout, context)
    if (request.format === 'tar') await archiveRoot(manifest, layout, context)
    writeForAll(layout.buildSystem, `${buildPlatform()}\n`)
    writeForAll(layout.manifest, formatManifest(manifest))
    writeForAll(layout.lock, '')
    refuseOtherFiles(layout, manifest.root.format)
    const advice = 'After a loss of power, verify the image with netimage verify.'
    await syncFileSystem(layout.image, context.signal, context.progress, advice)
    context.signal.throwIfAborted()
    await staging.publish()
    return { image, manifest, findings }
  } catch (error) {
    throw fileSystemError(`could not make the image ${image}`, error)
  } finally {
    staging.close()
  }
}

function makeFolders(layout: ImageLayout): void {
  for (const directory of [dirname(layout.manifest), layout.boot, layout.store]) {
    mkdirSync(directory, { recursive: true })
  }
  // The server runs as another user, and the umask may be strict.
  const folders = [layout.store, dirname(layout.store), layout.root, layout.boot]
  const outer = [dirname(layout.boot), dirname(layout.manifest), dirname(dirname(layout.boot))]
  for (const directory of [...folders, ...outer]) chmodSync(directory, 0o755)
}

function writeForAll(file: string, text: string): void {
  writeFileSync(file, text)
  chmodSync(file, 0o644)
}

async function makeBootTree(
  request: BuildRequest,
  system: System,
  options: SettledOptions,
  closure: Closure,
  layout: ImageLayout,
  { pool, progress }: PoolContext,
): Promise<BootOrigin> {
  const find = (path: string) => findStoreFile(treesOf(closure, pool), path)
  const settings = request.bootSettings ?? {}
  const bootRequest: BootRequest = {
    system,
    nfsRoot: parseNfsRoot(options.nfsRoot),
    settings,
    find,
    warn: (message) => progress.warn(message),
  }
  const ways = request.boot ?? (await defaultWays(bootRequest))
  const files = await bootFiles(ways, bootRequest)
  await writeBootTree(layout.boot, files, find)
  return bootOrigin(ways, settings, files)
}

/** The trees of the closure in the pool. */
function treesOf(closure: Closure, pool: Pool): TreeOf {
  return (path) => {
    const entry = closure.get(path)
    return Promise.resolve(entry && pool.treePath(entry.info))
  }
}

async function describeImage(
  system: System,
  options: SettledOptions,
  closure: Closure,
  layout: ImageLayout,
  made: BootOrigin,
): Promise<Manifest> {
  const stored = new Set([...closure.keys()].map((path) => path.slice(1)))
  return {
    version: manifestVersion,
    system,
    options,
    closure: manifestClosure(closure),
    root: {
      format: 'directory',
      owner: { uid: 0, gid: 0 },
      files: await listTree(layout.root, (path) => stored.has(path)),
    },
    boot: { files: await listTree(layout.boot, () => false), made },
  }
}

async function checkImage(
  request: BuildRequest,
  manifest: Manifest,
  system: System,
  closure: Closure,
  layout: ImageLayout,
  { pool, progress }: PoolContext,
): Promise<CheckFinding[]> {
  const task = progress.begin('checking the image')
  const findings = await checkSystem({
    system,
    closure: closureInfos(closure),
    treeOf: treesOf(closure, pool),
    knownSecrets: knownSecrets(closure, pool),
    silenced: request.silenced,
    nfsRoot: manifest.options.nfsRoot,
    image: {
      bootTree: layout.boot,
      bootFiles: manifest.boot.files,
      rootFiles: manifest.root.files,
    },
  })
  task.end(`checked the image: ${plural(findings.length, 'finding')}`)
  return findings
}

async function archiveRoot(
  manifest: Manifest,
  layout: ImageLayout,
  { signal, progress }: PoolContext,
): Promise<void> {
  const task = progress.begin('writing the archive')
  manifest.root.format = 'tar'
  manifest.root.tar = await writeTar(layout.root, layout.rootTar, signal)
  removeTree(layout.root)
  task.end('wrote the archive')
}

const nixProcessors: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64', ia32: 'i686' }

/** The platform of this machine in Nix's words: `x86_64-linux`. */
function buildPlatform(): string {
  return `${nixProcessors[process.arch] ?? process.arch}-${process.platform}`
}
