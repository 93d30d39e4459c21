/** Looks for secrets in the exported store paths. */
import { closeSync, lstatSync, openSync, readdirSync, readSync, type Stats } from 'node:fs'
import { posix } from 'node:path'
import { setImmediate } from 'node:timers/promises'

import { joinBytes } from '../byte-paths.ts'
import { fileSystemError } from '../errors.ts'
import { nameOf, type StorePath } from '../nix/store-path.ts'
import type { CheckInput } from './input.ts'
import { publicPathsOf } from './public-paths.ts'
import {
  findSecret,
  isHostKeyName,
  isPublishedFolder,
  isSearchedSize,
  maxSecretFileBytes,
  type SecretKind,
  type TreeSecret,
} from '../secrets.ts'

export interface StoreSecret {
  storePath: StorePath
  /** The file's path on the machine. */
  path: string
  kind: SecretKind
  isHostKey: boolean
}

export interface StoreSecrets {
  found: readonly StoreSecret[]
  /** Whether some paths were known to be public. Otherwise all paths were searched. */
  knowsPublic: boolean
}

/** The maximum depth of a NAR. */
const maxDepth = 64

export async function findSecretsInStore(
  input: Pick<CheckInput, 'closure' | 'publicPaths' | 'treeOf' | 'prefetch' | 'knownSecrets'>,
): Promise<StoreSecrets> {
  const publicPaths = input.publicPaths ?? publicPathsOf(input.closure)
  const paths = input.closure.map(({ path }) => path).filter((path) => !publicPaths.has(path))
  await input.prefetch?.(paths)
  const found: StoreSecret[] = []
  for (const path of paths) {
    const secrets = known(path, input) ?? (await search(path, input))
    for (const { path: below, kind } of secrets) {
      const isHostKey = isHostKeyName(posix.basename(below) || nameOf(path))
      found.push({ storePath: path, path: posix.join(path, below), kind, isHostKey })
    }
  }
  return { found, knowsPublic: publicPaths.size > 0 }
}

const buffer = Buffer.alloc(maxSecretFileBytes)

/** Only trees of directories are known. */
function known(
  path: StorePath,
  { knownSecrets }: Pick<CheckInput, 'knownSecrets'>,
): readonly TreeSecret[] | undefined {
  const secrets = knownSecrets?.of(path)
  return secrets && isPublishedFolder(nameOf(path)) ? [] : secrets
}

async function search(
  path: StorePath,
  { treeOf, knownSecrets }: Pick<CheckInput, 'treeOf' | 'knownSecrets'>,
): Promise<TreeSecret[]> {
  const tree = await treeOf(path)
  if (tree === undefined) return []
  // Ctrl-C must work between two paths.
  await setImmediate()
  const name = nameOf(path)
  let secrets: TreeSecret[]
  try {
    const root = Buffer.from(tree)
    const stat = lstatSync(root)
    if (!stat.isDirectory()) return searchFile(root, '', name, stat)
    if (isPublishedFolder(name)) return []
    secrets = searchDirectory(root, '', 0)
  } catch (error) {
    throw fileSystemError(`could not look for secrets in ${path} at ${tree}`, error)
  }
  knownSecrets?.keep(path, secrets)
  return secrets
}

/**
 * Uses buffers for file names, because not every name is text.
 *
 * @param below the path of the directory below the tree, with a slash at the end; empty for the tree
 */
function searchDirectory(directory: Buffer, below: string, depth: number): TreeSecret[] {
  if (depth >= maxDepth) return []
  return readdirSync(directory, { encoding: 'buffer' }).flatMap((child) => {
    const file = joinBytes(directory, child)
    const name = child.toString()
    const stat = lstatSync(file)
    if (!stat.isDirectory()) return searchFile(file, below + name, name, stat)
    return isPublishedFolder(name) ? [] : searchDirectory(file, `${below}${name}/`, depth + 1)
  })
}

function searchFile(file: Buffer, path: string, name: string, stat: Stats): TreeSecret[] {
  if (!stat.isFile() || !isSearchedSize(stat.size)) return []
  const kind = findSecret(name, readSmall(file))
  return kind ? [{ path, kind }] : []
}

/** @returns a part of the buffer, which the next call overwrites */
function readSmall(file: Buffer): Buffer {
  const fd = openSync(file, 'r')
  try {
    return buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, 0))
  } finally {
    closeSync(fd)
  }
}
