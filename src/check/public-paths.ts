/** Store paths that the public cache gives to everybody, so they hold no secrets. */
import type { PathInfo } from '../nix/path-info.ts'
import { nixosCacheKey, parsePublicKey, signedBy } from '../nix/signature.ts'
import type { StorePath } from '../nix/store-path.ts'

const publicKeys = [parsePublicKey(nixosCacheKey)]

/** The paths that the public cache has signed. The set is empty if no signatures are known. */
export function publicPathsOf(closure: Iterable<PathInfo>): Set<StorePath> {
  const paths = new Set<StorePath>()
  for (const info of closure) {
    if (isPublic(info)) paths.add(info.path)
  }
  return paths
}

/** Whether the public cache has signed the path. */
export function isPublic(info: PathInfo): boolean {
  return signedBy(info, publicKeys) !== undefined
}
