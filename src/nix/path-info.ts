/** The facts that a store knows about a store path. */
import { formatHash, type Hash } from './hash.ts'
import { compareStorePaths, type StorePath } from './store-path.ts'

export interface PathInfo {
  path: StorePath
  /** SHA-256 of the path's NAR. */
  narHash: Hash
  /** The size of the path's NAR in bytes. */
  narSize: number
  /** Sorted, without duplicates. Includes the path itself if it refers to itself. */
  references: readonly StorePath[]
  deriver?: StorePath
  /** Each is `<key name>:<base64>` and not yet verified. */
  signatures: readonly string[]
  /** The content address, not yet verified. */
  ca?: string
}

export function sortedReferences(references: Iterable<StorePath>): StorePath[] {
  return [...new Set(references)].sort(compareStorePaths)
}

/**
 * The text that is signed: `1;<path>;<nar hash>;<nar size>;<references>`.
 *
 * https://nix.dev/manual/nix/latest/protocols/binary-cache/narinfo (Sig)
 */
export function fingerprint(info: PathInfo): string {
  return `1;${info.path};${formatHash(info.narHash)};${info.narSize};${info.references.join(',')}`
}
