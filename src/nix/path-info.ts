/** What a store knows of a store path. */
import { formatHash, type Hash } from './hash.ts'
import { compareStorePaths, type StorePath } from './store-path.ts'

export interface PathInfo {
  path: StorePath
  /** SHA-256 of the path's NAR. */
  narHash: Hash
  /** Bytes of the path's NAR. */
  narSize: number
  /** Sorted, without duplicates; holds the path itself where it refers to itself. */
  references: readonly StorePath[]
  deriver?: StorePath
  /** `<key name>:<base64>` each, not yet verified. */
  signatures: readonly string[]
  /** Content address, as the store gave it, not yet verified. */
  ca?: string
}

export function sortedReferences(references: Iterable<StorePath>): StorePath[] {
  return [...new Set(references)].sort(compareStorePaths)
}

/**
 * What a signature is made over: `1;<path>;<nar hash>;<nar size>;<references>`.
 *
 * https://nix.dev/manual/nix/latest/protocols/binary-cache/narinfo (Sig)
 */
export function fingerprint(info: PathInfo): string {
  return `1;${info.path};${formatHash(info.narHash)};${info.narSize};${info.references.join(',')}`
}
