/** Finds the store path of a system by a store path, a link, or a flake's host. */
import { existsSync, lstatSync, readlinkSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { splitStorePath, storeDir, type StorePath } from '../nix/store-path.ts'
import { buildFlakePath } from './flake.ts'

const maxLinks = 40

/**
 * @param name `/nix/store/…`, `./result`, `.#host` or any other flake reference with a `#`
 * @param roots holds the GC roots of a path that Nix built for a flake reference
 */
export async function findSystemPath(
  name: string,
  roots: DisposableStack,
  signal: AbortSignal,
): Promise<StorePath> {
  if (name.startsWith(`${storeDir}/`)) return wholePath(name, name)
  if (name.includes('#')) return wholePath(await buildFlakePath(name, roots, signal), name)
  return followLinks(name)
}

function wholePath(path: string, name: string): StorePath {
  const split = splitStorePath(path)
  if (split?.rest === '') return split.storePath
  const subject = name === path ? path : `${name} leads to ${path}, which`
  throw new NetimageError('bad-store-path', `${subject} is not a store path`, {
    details: { actual: path },
    hint: `Name the system itself: ${split?.storePath ?? `${storeDir}/<32 characters>-nixos-system-…`}`,
  })
}

/** Not `realpath`: the store path that the links lead to may be missing on this machine. */
function followLinks(name: string): StorePath {
  let path = resolve(name)
  for (let links = 0; links < maxLinks; links++) {
    // A store below another root has paths like DIR/nix/store/….
    const at = path.lastIndexOf(`${storeDir}/`)
    if (at >= 0) return wholePath(path.slice(at), name)
    const target = linkTarget(path)
    if (target === undefined) throw notASystem(name, path)
    path = resolve(dirname(path), target)
  }
  throw new NetimageError('path-not-found', `${name} leads through more than ${maxLinks} links`, {
    details: { file: name, expected: maxLinks },
  })
}

function linkTarget(path: string): string | undefined {
  try {
    return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw fileSystemError(`could not read ${path}`, error)
    throw new NetimageError('path-not-found', `${path} does not exist`, {
      details: { file: path },
      hint: 'Name a store path, a link to one (./result), or a host of a flake (.#host).',
    })
  }
}

function notASystem(name: string, path: string): NetimageError {
  const hint = existsSync(join(path, 'flake.nix'))
    ? `This is a flake. Name one of its hosts, as in ${name}#host.`
    : 'Name a store path, a link to one (./result), or a host of a flake (.#host).'
  return new NetimageError('not-a-system', `${name} leads to no store path`, {
    hint,
    details: { file: path },
  })
}
