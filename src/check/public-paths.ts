/** Store paths that everybody can have from the public cache: what is in them is no secret. */
import type { PathInfo } from '../nix/path-info.ts'
import { nixosCacheKey, parsePublicKey, signedBy } from '../nix/signature.ts'
import type { StorePath } from '../nix/store-path.ts'

const publicKeys = [parsePublicKey(nixosCacheKey)]

/** Those that the public cache has signed. Empty also if no signatures are known. */
export function publicPathsOf(closure: Iterable<PathInfo>): Set<StorePath> {
  const paths = new Set<StorePath>()
  for (const info of closure) {
    if (signedBy(info, publicKeys) !== undefined) paths.add(info.path)
  }
  return paths
}
