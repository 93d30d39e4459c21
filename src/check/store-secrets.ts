/** Looks for secrets in the exported store paths. */
import { closeSync, lstatSync, openSync, readdirSync, readSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'

import { joinBytes } from '../byte-paths.ts'
import { fileSystemError } from '../errors.ts'
import { nameOf, type StorePath } from '../nix/store-path.ts'
import {
  findSecret,
  isHostKeyName,
  maxSecretFileBytes,
  minSecretFileBytes,
  type SecretKind,
} from '../nixos/secrets.ts'
import type { CheckInput } from './input.ts'
import { publicPathsOf } from './public-paths.ts'

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

/** Folders with keys of tests and manuals, which are published with their programs. */
const publishedFolders = new Set(
  'test tests testing testdata test-data test_data t fixtures example examples sample samples demo demos doc docs man info'.split(
    ' ',
  ),
)

/** The maximum depth of a NAR. */
const maxDepth = 64

export async function findSecretsInStore(
  input: Pick<CheckInput, 'closure' | 'publicPaths' | 'treeOf' | 'prefetch'>,
): Promise<StoreSecrets> {
  const publicPaths = input.publicPaths ?? publicPathsOf(input.closure)
  const paths = input.closure.map(({ path }) => path).filter((path) => !publicPaths.has(path))
  await input.prefetch?.(paths)
  const secrets: StoreSecret[] = []
  const buffer = Buffer.alloc(maxSecretFileBytes)
  for (const path of paths) {
    const tree = await input.treeOf(path)
    if (tree === undefined) continue
    try {
      searchTree(path, tree, buffer, secrets)
    } catch (error) {
      throw fileSystemError(`could not look for secrets in ${path} at ${tree}`, error)
    }
    // Ctrl-C must work between two paths.
    await setImmediate()
  }
  return { found: secrets, knowsPublic: publicPaths.size > 0 }
}

/** Uses buffers for file names, because not every name is text. */
function searchTree(
  storePath: StorePath,
  tree: string,
  buffer: Buffer,
  secrets: StoreSecret[],
): void {
  function visit(file: Buffer, path: string, name: string, depth: number): void {
    const stat = lstatSync(file)
    if (stat.isDirectory()) {
      if (depth >= maxDepth || publishedFolders.has(name.toLowerCase())) return
      for (const child of readdirSync(file, { encoding: 'buffer' })) {
        const childName = child.toString()
        visit(joinBytes(file, child), `${path}/${childName}`, childName, depth + 1)
      }
    } else if (stat.isFile() && isSearched(stat.size)) {
      const kind = findSecret(name, readSmall(file, buffer))
      if (kind) secrets.push({ storePath, path, kind, isHostKey: isHostKeyName(name) })
    }
  }
  visit(Buffer.from(tree), storePath, nameOf(storePath), 0)
}

function isSearched(size: number): boolean {
  return size >= minSecretFileBytes && size <= maxSecretFileBytes
}

/** @returns a part of the buffer, which the next call overwrites */
function readSmall(file: Buffer, buffer: Buffer): Buffer {
  const fd = openSync(file, 'r')
  try {
    return buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, 0))
  } finally {
    closeSync(fd)
  }
}
