/** Checks an unpacked tree against its hashes. */
import { createHash } from 'node:crypto'
import { lstatSync } from 'node:fs'

import type { ContentCheck } from '../nix/content-address.ts'
import { hashModulo } from '../nix/hash-modulo.ts'
import type { Hash } from '../nix/hash.ts'
import { readChunks } from '../nix/nar-source.ts'
import { dumpNar } from '../nix/nar/dump.ts'

/** Whether the tree at `path` still has the NAR hash and NAR size. */
export function treeMatches(
  path: string,
  narHash: Hash,
  narSize: number,
  progress: (bytes: number) => void,
): boolean {
  const hash = createHash('sha256')
  let size = 0
  dumpNar(path, (chunk) => {
    size += chunk.length
    hash.update(chunk)
    progress(chunk.length)
  })
  return size === narSize && hash.digest('hex') === narHash.hex
}

/** Whether the content of the tree at `path` matches a content address. */
export function contentMatches(path: string, check: ContentCheck): boolean {
  const { algorithm, hex, over, selfHashPart } = check
  if (selfHashPart !== undefined) {
    const hash = hashModulo(algorithm, selfHashPart)
    dumpNar(path, (chunk) => hash.update(chunk))
    return hash.hex() === hex
  }
  const hash = createHash(algorithm)
  if (over === 'nar') dumpNar(path, (chunk) => void hash.update(chunk))
  else if (!lstatSync(path).isFile()) return false
  else for (const chunk of readChunks(path, true)) hash.update(chunk)
  return hash.digest('hex') === hex
}
