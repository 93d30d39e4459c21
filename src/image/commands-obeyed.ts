/**
 * Runs the commands that a person gave for an image, puts the files that they made into its trees, and
 * refuses what commands must not do: change the store or its registration, or add to the image outside
 * its two trees.
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
import { findStrays, type ImageLayout } from './layout.ts'
import type { Manifest } from './manifest.ts'
import { mergeTree } from './merge.ts'
import type { SettledOptions } from './options.ts'
import { runCommands } from './populate.ts'
import type { Staging } from './staging.ts'

/** An image of which the store is complete. */
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
  refuseStrayPaths(closure, layout)
  refuseOtherRegistration(closure, layout)
  // As makeFolders has made them, and the manifest takes them to be.
  for (const tree of [layout.root, layout.boot]) chmodSync(tree, 0o755)
  if (!isGuarded) await refuseChangedPaths(closure, layout, context)
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
      details: { path: `/nix/store/${name}` },
      hint: 'Name what belongs in the store in storePaths.',
    })
  }
  const [gone] = expected
  if (gone === undefined) return
  throw new NetimageError('command-failed', `the commands removed /nix/store/${gone}`, {
    details: { path: `/nix/store/${gone}` },
  })
}

/** Where nothing kept the commands from it, the whole store is hashed once more. */
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
    // With hard links they wrote to the pool as well.
    if (!(await isWhole(info, pool.treePath(info)))) pool.discard(info)
    throw new NetimageError('command-failed', `the commands changed ${info.path}`, {
      details: { path: info.path },
      hint: 'A store path cannot be changed: change what it is built from.',
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
    hint: 'It says what the store of the root tree holds: netimage writes it itself.',
  })
}

/** Called last, when the image is otherwise complete. */
export function refuseStrays(layout: ImageLayout, format: Manifest['root']['format']): void {
  const [stray] = findStrays(layout, format)
  if (stray === undefined) return
  throw new NetimageError('command-failed', `the commands made ${stray} in the image`, {
    details: { file: stray },
    hint: 'An image has room for more in its two trees only: $rootfs and $bootfs.',
  })
}
