/** The input of a check: a system, and its image if there is one. */
import type { PathInfo } from '../nix/path-info.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { TreeOf } from '../nixos/store-files.ts'
import type { System } from '../nixos/system.ts'
import type { TreeSecret } from '../secrets.ts'
import type { TreeFile } from '../tree-files.ts'

export interface CheckInput {
  system: System
  /** All exported store paths. */
  closure: readonly PathInfo[]
  /** Public store paths. Undefined means the paths of the closure that the public cache signed. */
  publicPaths?: ReadonlySet<StorePath> | undefined
  treeOf: TreeOf
  /**
   * Fetches many trees at once, before `treeOf` is called for each. Not set if none has to be
   * fetched.
   */
  prefetch?: ((paths: readonly StorePath[]) => Promise<void>) | undefined
  /** Not set if each tree must be searched for secrets. */
  knownSecrets?: KnownSecrets | undefined
  /** The NFS root of the machine; undefined if nobody named one. */
  nfsRoot?: string | undefined
  image?: CheckedImage | undefined
  /** Names of rules that do not run. */
  silenced?: readonly string[] | undefined
}

/** The secrets that earlier searches of whole trees have found. */
export interface KnownSecrets {
  /** Undefined if the tree must be searched. */
  of(path: StorePath): readonly TreeSecret[] | undefined
  keep(path: StorePath, secrets: TreeSecret[]): void
}

export interface CheckedImage {
  /** The directory of the boot tree. */
  bootTree: string
  /** The files of the boot tree, from the manifest. */
  bootFiles: readonly TreeFile[]
  /** The files of the root tree besides store paths, from the manifest. */
  rootFiles: readonly TreeFile[]
}
