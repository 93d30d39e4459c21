/** From what a person names (a store path, a link, a flake's host) to the system's store path. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, lstatSync, readlinkSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import * as v from 'valibot'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { splitStorePath, storeDir, type StorePath } from '../nix/store-path.ts'

const maxLinks = 40

/** @param name `/nix/store/…`, `./result`, `.#host` or any other flake reference with a `#` */
export async function findSystemPath(name: string, signal: AbortSignal): Promise<StorePath> {
  if (name.startsWith(`${storeDir}/`)) return wholePath(name, name)
  if (name.includes('#')) return await buildFlakeHost(name, signal)
  return followLinks(name)
}

function wholePath(path: string, name: string): StorePath {
  const split = splitStorePath(path)
  if (split?.rest === '') return split.storePath
  throw new NetimageError('bad-store-path', `${name} is not a store path but ${path}`, {
    hint: `Name the system itself: ${split?.storePath ?? `${storeDir}/<32 characters>-nixos-system-…`}`,
  })
}

/** Links are followed one by one: the store path they lead to need not be on this machine. */
function followLinks(name: string): StorePath {
  let path = resolve(name)
  for (let links = 0; links < maxLinks; links++) {
    // A store of another root: DIR/nix/store/….
    const at = path.lastIndexOf(`${storeDir}/`)
    if (at >= 0) return wholePath(path.slice(at), name)
    const target = linkTarget(path)
    if (target === undefined) throw notASystem(name, path)
    path = resolve(dirname(path), target)
  }
  throw new NetimageError('path-not-found', `${name} leads through more than ${maxLinks} links`)
}

function linkTarget(path: string): string | undefined {
  try {
    return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw fileSystemError(`could not read ${path}`, error)
    throw new NetimageError('path-not-found', `there is no ${path}`, {
      hint: 'Name a store path, a link to one (./result), or a host of a flake (.#host).',
    })
  }
}

function notASystem(name: string, path: string): NetimageError {
  const hint = existsSync(join(path, 'flake.nix'))
    ? `There is a flake: name its host, as in ${name}#host.`
    : 'Name a store path, a link to one (./result), or a host of a flake (.#host).'
  return new NetimageError('not-a-system', `${name} leads to no store path`, { hint })
}

/** What `nix build --json` prints; Nix 2.8 has no other way to tell what it built. */
const builtSchema = v.array(v.object({ outputs: v.object({ out: v.string() }) }))

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

async function buildFlakeHost(reference: string, signal: AbortSignal): Promise<StorePath> {
  const hash = reference.indexOf('#')
  const flake = reference.slice(0, hash)
  const fragment = reference.slice(hash + 1)
  const host = /^[A-Za-z0-9_][A-Za-z0-9_'-]*$/.test(fragment) ? fragment : undefined
  const attribute = host ? `nixosConfigurations.${host}.config.system.build.toplevel` : fragment
  const build = ['build', '--no-link', '--json', `${flake}#${attribute}`]
  const output = await runNix(build, reference, signal)
  const paths = v.safeParse(builtSchema, parseJson(output))
  const [path, ...more] = paths.success ? paths.output.flatMap((built) => built.outputs.out) : []
  if (path === undefined || more.length > 0) {
    throw new NetimageError('not-a-system', `${reference} does not build one path`)
  }
  return wholePath(path, reference)
}

async function runNix(args: string[], what: string, signal: AbortSignal): Promise<string> {
  const features = ['--extra-experimental-features', 'nix-command flakes']
  // Nix shows its own progress and its own errors.
  const child = spawn('nix', [...features, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    signal,
  })
  const closed = once(child, 'close')
  closed.catch(() => undefined)
  const output = text(child.stdout)
  try {
    const [status] = await closed
    if (status === 0) return await output
    throw new NetimageError('nix-failed', `nix could not build ${what}`, {
      hint: 'What nix said stands above.',
    })
  } catch (error) {
    if (signal.aborted) throw new NetimageError('interrupted', 'interrupted', { cause: error })
    if (errnoOf(error) !== 'ENOENT') throw error
    throw new NetimageError('program-missing', `building ${what} takes the program nix`, {
      cause: error,
      hint: 'Build the system where Nix is, and name its store path with --from and the store that has it.',
    })
  }
}
