/**
 * Runs the commands that a person gave for an image, and moves the files that they made into its
 * trees. The commands must not change the store or its registration, and must not add files to the
 * image outside of its two trees.
 */
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { NetimageError } from '../errors.ts'
import { closureInfos, type Closure } from '../nix/closure.ts'
import type { PathInfo } from '../nix/path-info.ts'
import { formatRegistration, registrationName } from '../nix/registration.ts'
import { baseNameOf } from '../nix/store-path.ts'
import type { PoolContext } from '../pool/context.ts'
import { allOrNone } from '../pool/fill.ts'
import { findOtherFiles, type ImageLayout } from './layout.ts'
import type { Manifest } from './manifest.ts'
import { mergeTree } from './merge.ts'
import type { SettledOptions } from './options.ts'
import { runCommands } from './populate.ts'
import type { Staging } from './staging.ts'

/** An image with a complete store, but not all other files. */
interface UnfinishedImage {
  closure: Closure
  layout: ImageLayout
  staging: Staging
}

const commandOptions = ['populateRootCommands', 'populateFirmwareCommands'] as const

export function hasCommands(options: SettledOptions): boolean {
  return commandOptions.some((name) => options[name].trim() !== '')
}

export async function obeyCommands(
  options: SettledOptions,
  { closure, layout, staging }: UnfinishedImage,
  context: PoolContext,
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
  refuseOtherPaths(closure, layout)
  refuseOtherRegistration(closure, layout)
  // The commands may have changed the modes. The manifest does not record those of the two trees.
  for (const tree of [layout.root, layout.boot]) chmodSync(tree, 0o755)
  if (!isGuarded) await refuseChangedPaths(closure, layout, context)
}

/** The store must hold only the closure, because the registration names nothing else. */
function refuseOverStore(name: string, path: string, target: string, layout: ImageLayout) {
  if (target !== layout.root) return undefined
  if (path === registrationName) return `${name} made ${path}, which netimage writes itself`
  if (path !== 'nix' && path !== 'nix/store' && !path.startsWith('nix/store/')) return undefined
  return `${name} made files/${path}: to add a path to the store, name it in storePaths`
}

/** Commands can also write to `$rootfs` directly. */
function refuseOtherPaths(closure: Closure, layout: ImageLayout): void {
  const expected = new Set([...closure.keys()].map(baseNameOf))
  for (const name of readdirSync(layout.store)) {
    if (expected.delete(name)) continue
    throw new NetimageError('command-failed', `the commands made /nix/store/${name}`, {
      details: { path: `/nix/store/${name}` },
      hint: 'To add a path to the store, name it in storePaths.',
    })
  }
  const [gone] = expected
  if (gone === undefined) return
  throw new NetimageError('command-failed', `the commands removed /nix/store/${gone}`, {
    details: { path: `/nix/store/${gone}` },
  })
}

/** Hashes the whole store again, if nothing kept the commands from writing to it. */
async function refuseChangedPaths(
  closure: Closure,
  layout: ImageLayout,
  { pool, workers, progress }: PoolContext,
): Promise<void> {
  const infos = closureInfos(closure)
  const isWhole = (info: PathInfo, tree: string) => {
    const { narHash, narSize } = info
    return workers.run({ kind: 'check', tree, narHash, narSize })
  }
  const task = progress.begin('looking for what the commands changed', { paths: infos.length })
  await allOrNone(infos, infos.length, async (info) => {
    if (await isWhole(info, join(layout.store, baseNameOf(info.path)))) return
    // If the files are hard links, the commands also changed the pool.
    if (!(await isWhole(info, pool.treePath(info)))) pool.discard(info)
    throw new NetimageError('command-failed', `the commands changed ${info.path}`, {
      details: { path: info.path },
      hint: 'Commands must not change store paths. Change the source that the path is built from.',
    })
  })
  task.end('the commands changed nothing in the store')
}

function refuseOtherRegistration(closure: Closure, layout: ImageLayout): void {
  const text = formatRegistration(closureInfos(closure))
  const stat = lstatSync(layout.registration, { throwIfNoEntry: false })
  const same = stat?.isFile() && stat.size === text.length
  if (same && readFileSync(layout.registration, 'utf8') === text) return
  throw new NetimageError('command-failed', `the commands changed ${registrationName}`, {
    details: { file: registrationName },
    hint: 'netimage writes this file itself: it lists the paths in the store of the root tree.',
  })
}

/** Called last, when the image is complete. */
export function refuseOtherFiles(layout: ImageLayout, format: Manifest['root']['format']): void {
  const [other] = findOtherFiles(layout, format)
  if (other === undefined) return
  throw new NetimageError('command-failed', `the commands made ${other} in the image`, {
    details: { file: other },
    hint: 'Commands may add files only to the two trees of the image: $rootfs and $bootfs.',
  })
}
