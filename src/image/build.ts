/** Builds a net image: from what a person names to an image on disk that is whole. */
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { setFlagsFromString } from 'node:v8'

import type { BootRequest } from '../boot/request.ts'
import { bootFiles, defaultWays } from '../boot/ways.ts'
import { refuseCaseInsensitive } from '../case-sensitive.ts'
import { checkSystem, type CheckFinding } from '../check/check-system.ts'
import { fileSystemError, NetimageError } from '../errors.ts'
import { resolveClosure, type Closure, type StoreAccess } from '../nix/closure.ts'
import type { PathInfo } from '../nix/path-info.ts'
import { formatRegistration, registrationName } from '../nix/registration.ts'
import { baseNameOf, storeDir, type StorePath } from '../nix/store-path.ts'
import { openStores } from '../nix/stores/choose.ts'
import { findSystemPath } from '../nixos/name-system.ts'
import { parseNfsRoot } from '../nixos/nfs-root.ts'
import { findStoreFile, type TreeOf } from '../nixos/store-files.ts'
import { readSystem, type System } from '../nixos/system.ts'
import { allOrNone, fillPool } from '../pool/fill.ts'
import { defaultPoolDirectory, openPool, type Pool } from '../pool/pool.ts'
import { startWorkers, type Workers } from '../pool/workers.ts'
import { plural, silentProgress, type Progress } from '../progress.ts'
import { removeTree } from '../remove-tree.ts'
import { writeBootTree } from './boot-tree.ts'
import { withHostSettings } from './host.ts'
import { findStrays, imageLayout, type ImageLayout } from './layout.ts'
import { formatManifest, manifestClosure, manifestVersion, type Manifest } from './manifest.ts'
import { mergeTree } from './merge.ts'
import { normalizeTree } from './normalize.ts'
import { extraRoots, parseOptions, settleOptions, type NetImageOptions } from './options.ts'
import type { SettledOptions } from './options.ts'
import { placeStore } from './place-store.ts'
import { runCommands } from './populate.ts'
import type { BuildRequest } from './request.ts'
import { openStaging, refuseExisting, type Staging } from './staging.ts'
import { syncFileSystem } from './sync.ts'
import { writeTar } from './tar.ts'
import { listTree } from '../tree-files.ts'

export interface BuiltImage {
  /** The absolute path of the image. */
  image: string
  manifest: Manifest
  /** What will keep it from booting or hurt later. */
  findings: CheckFinding[]
}

/** The working parts of a build, ended together. */
interface BuildContext {
  access: StoreAccess
  pool: Pool
  workers: Workers
  signal: AbortSignal
  progress: Progress
}

export async function buildNetImage(given: BuildRequest): Promise<BuiltImage> {
  const signal = given.signal ?? new AbortController().signal
  const progress = given.progress ?? silentProgress
  const force = given.force ?? false
  if (given.output !== undefined) refuseExisting(resolve(given.output), force)

  const own = parseOptions(given.options ?? {}, 'the options')
  // What Nix builds for this is kept by nobody else.
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
    const context: BuildContext = { access, pool, workers, signal, progress }
    const closure = await fillPool(found.values(), context)
    return await buildFromPool(request, options, toplevel, closure, context)
  } catch (error) {
    if (signal.aborted) throw new NetimageError('interrupted', 'interrupted', { cause: error })
    throw error
  } finally {
    // Transfers that are under way write to the pool.
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
    // V8 lets garbage pile up while there is memory: with many paths by hundreds of megabytes.
    if (done.paths === manyPaths) setFlagsFromString('--optimize-for-size')
  })
  task.end(`found the closure: ${plural(done.paths, 'path')}`)
  return closure
}

/** Enough to tell that a closure is large, while the heap is still small. */
const manyPaths = 500

async function buildFromPool(
  request: BuildRequest,
  given: NetImageOptions,
  toplevel: StorePath,
  closure: Closure,
  context: BuildContext,
): Promise<BuiltImage> {
  const system = await readSystem(treesOf(closure, context.pool), toplevel)
  const options = settleOptions(given, system)
  const image = resolve(request.output ?? options.rootDirectoryName)
  const staging = openStaging(image, request.force ?? false, (message) =>
    context.progress.warn(message),
  )
  try {
    const layout = imageLayout(staging.image, options.rootDirectoryName)
    makeFolders(layout)
    // A tree that only becomes an archive need not have files of its own, if nobody writes to it.
    const canShare = request.format === 'tar' && !hasCommands(options)
    const link = request.link ?? (canShare ? 'hardlink' : 'copy')
    await placeStore(closure, layout.store, link, context)
    await makeBootTree(request, system, options, closure, layout, context)
    writeForAll(layout.registration, formatRegistration(infosOf(closure)))
    await populate(options, closure, layout, staging, context)
    // An archive keeps what the store does not.
    const isForStore = image.startsWith(`${storeDir}/`)
    const storeModes = isForStore && request.format !== 'tar'
    normalizeTree(layout.root, { skip: layout.store, storeModes })
    normalizeTree(layout.boot, { storeModes: isForStore })
    const manifest = await describeImage(system, options, closure, layout)
    const findings = await checkImage(request, manifest, system, closure, layout, context)
    if (request.format === 'tar') await archiveRoot(manifest, layout, context)
    writeForAll(layout.buildSystem, `${buildPlatform()}\n`)
    writeForAll(layout.manifest, formatManifest(manifest))
    writeForAll(layout.lock, '')
    refuseStrays(layout, manifest.root.format)
    await syncFileSystem(layout.image, context.signal, context.progress)
    context.signal.throwIfAborted()
    staging.publish()
    return { image, manifest, findings }
  } catch (error) {
    throw fileSystemError(`could not make the image ${image}`, error)
  } finally {
    staging.close()
  }
}

function infosOf(closure: Closure) {
  return [...closure.values()].map((path) => path.info)
}

function makeFolders(layout: ImageLayout): void {
  for (const directory of [dirname(layout.manifest), layout.boot, layout.store]) {
    mkdirSync(directory, { recursive: true })
  }
  // Whatever the umask says: a server runs as somebody else.
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
  { pool, progress }: BuildContext,
): Promise<void> {
  const find = (path: string) => findStoreFile(treesOf(closure, pool), path)
  const bootRequest: BootRequest = {
    system,
    nfsRoot: parseNfsRoot(options.nfsRoot),
    settings: request.bootSettings ?? {},
    find,
    warn: (message) => progress.warn(message),
  }
  const ways = request.boot ?? (await defaultWays(bootRequest))
  await writeBootTree(layout.boot, await bootFiles(ways, bootRequest), find)
}

/** The closure's trees, as they lie in the pool. */
function treesOf(closure: Closure, pool: Pool): TreeOf {
  return (path) => {
    const entry = closure.get(path)
    return Promise.resolve(entry && pool.treePath(entry.info))
  }
}

const commandOptions = ['populateRootCommands', 'populateFirmwareCommands'] as const

function hasCommands(options: SettledOptions): boolean {
  return commandOptions.some((name) => options[name].trim() !== '')
}

async function populate(
  options: SettledOptions,
  closure: Closure,
  layout: ImageLayout,
  staging: Staging,
  context: BuildContext,
): Promise<void> {
  const { signal, progress } = context
  let isGuarded = true
  const run = async (name: (typeof commandOptions)[number], made: string, target: string) => {
    if (options[name].trim() === '') return
    const task = progress.begin(`running ${name}`)
    const directory = join(staging.scratch, name)
    const emptyDirectory = join(staging.scratch, `${name}-root`)
    mkdirSync(join(directory, made), { recursive: true })
    mkdirSync(emptyDirectory)
    const couldNotWrite = await runCommands(name, options[name], {
      out: staging.image,
      rootfs: layout.root,
      bootfs: layout.boot,
      store: layout.store,
      closure: [...closure.keys()],
      directory,
      emptyDirectory,
      signal,
    })
    isGuarded &&= couldNotWrite
    mergeTree(join(directory, made), target, (path) => refuseOverStore(name, path, target, layout))
    task.end(`ran ${name}`)
  }
  await run('populateRootCommands', 'files', layout.root)
  await run('populateFirmwareCommands', '.', layout.boot)
  refuseStrayPaths(closure, layout)
  refuseOtherRegistration(closure, layout)
  // As makeFolders has made them, and the manifest takes them to be.
  for (const tree of [layout.root, layout.boot]) chmodSync(tree, 0o755)
  if (!isGuarded) await refuseChangedPaths(closure, layout, context)
}

function refuseStrays(layout: ImageLayout, format: Manifest['root']['format']): void {
  const [stray] = findStrays(layout, format)
  if (stray === undefined) return
  throw new NetimageError('command-failed', `the commands made ${stray} in the image`, {
    hint: 'An image has room for more in its two trees only: $rootfs and $bootfs.',
  })
}

/** The store holds the closure, and what its registration says: nothing else. */
function refuseOverStore(name: string, path: string, target: string, layout: ImageLayout) {
  if (target !== layout.root) return undefined
  if (path === registrationName) return `${name} made ${path}, which netimage writes itself`
  if (path !== 'nix' && path !== 'nix/store' && !path.startsWith('nix/store/')) return undefined
  return `${name} made files/${path}: name what belongs in the store in storePaths`
}

/** Commands can also write to `$rootfs` themselves. */
function refuseStrayPaths(closure: Closure, layout: ImageLayout): void {
  const expected = new Set([...closure.keys()].map(baseNameOf))
  for (const name of readdirSync(layout.store)) {
    if (expected.delete(name)) continue
    throw new NetimageError('command-failed', `the commands made /nix/store/${name}`, {
      hint: 'Name what belongs in the store in storePaths.',
    })
  }
  const [gone] = expected
  if (gone === undefined) return
  throw new NetimageError('command-failed', `the commands removed /nix/store/${gone}`)
}

/** Where nothing kept the commands from it, the whole store is hashed once more. */
async function refuseChangedPaths(
  closure: Closure,
  layout: ImageLayout,
  { pool, workers, progress }: BuildContext,
): Promise<void> {
  const infos = infosOf(closure)
  const isWhole = (info: PathInfo, tree: string) => {
    const { narHash, narSize } = info
    return workers.run({ kind: 'check', tree, narHash, narSize })
  }
  const task = progress.begin('looking for what the commands changed', { paths: infos.length })
  await allOrNone(infos, infos.length, async (info) => {
    if (await isWhole(info, join(layout.store, baseNameOf(info.path)))) return
    // With hard links they wrote to the pool as well.
    if (!(await isWhole(info, pool.treePath(info)))) pool.discard(info)
    throw new NetimageError('command-failed', `the commands changed ${info.path}`, {
      hint: 'A store path cannot be changed: change what it is built from.',
    })
  })
  task.end('the commands changed nothing in the store')
}

function refuseOtherRegistration(closure: Closure, layout: ImageLayout): void {
  const text = formatRegistration(infosOf(closure))
  const stat = lstatSync(layout.registration, { throwIfNoEntry: false })
  const same = stat?.isFile() && stat.size === text.length
  if (same && readFileSync(layout.registration, 'utf8') === text) return
  throw new NetimageError('command-failed', `the commands changed ${registrationName}`, {
    hint: 'It says what the store of the root tree holds: netimage writes it itself.',
  })
}

async function describeImage(
  system: System,
  options: SettledOptions,
  closure: Closure,
  layout: ImageLayout,
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
    boot: { files: await listTree(layout.boot, () => false) },
  }
}

async function checkImage(
  request: BuildRequest,
  manifest: Manifest,
  system: System,
  closure: Closure,
  layout: ImageLayout,
  { pool, progress }: BuildContext,
): Promise<CheckFinding[]> {
  const task = progress.begin('looking for what could keep it from booting')
  const findings = await checkSystem({
    system,
    closure: infosOf(closure),
    treeOf: treesOf(closure, pool),
    silenced: request.silenced,
    nfsRoot: manifest.options.nfsRoot,
    image: {
      bootTree: layout.boot,
      bootFiles: manifest.boot.files,
      rootFiles: manifest.root.files,
    },
  })
  task.end(`looked for what could keep it from booting: ${plural(findings.length, 'finding')}`)
  return findings
}

async function archiveRoot(
  manifest: Manifest,
  layout: ImageLayout,
  { signal, progress }: BuildContext,
): Promise<void> {
  const task = progress.begin('writing the archive')
  manifest.root.format = 'tar'
  manifest.root.tar = await writeTar(layout.root, layout.rootTar, signal)
  removeTree(layout.root)
  task.end('wrote the archive')
}

const nixProcessors: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64', ia32: 'i686' }

/** This machine as Nix names it: `x86_64-linux`. */
function buildPlatform(): string {
  return `${nixProcessors[process.arch] ?? process.arch}-${process.platform}`
}
