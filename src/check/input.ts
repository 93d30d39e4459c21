/** What a check is told of: a system, and where there is one, its image. */
import type { PathInfo } from '../nix/path-info.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { TreeOf } from '../nixos/store-files.ts'
import type { System } from '../nixos/system.ts'
import type { TreeFile } from '../tree-files.ts'

export interface CheckInput {
  system: System
  /** Everything that is exported. */
  closure: readonly PathInfo[]
  /** Store paths that are public; undefined: those of which the closure's signatures say so. */
  publicPaths?: ReadonlySet<StorePath> | undefined
  treeOf: TreeOf
  /** Fetches many trees at once, before `treeOf` is called for each. Not set if none has to be fetched. */
  prefetch?: ((paths: readonly StorePath[]) => Promise<void>) | undefined
  /** Where the machine is to mount its root from; undefined where nobody has said it. */
  nfsRoot?: string | undefined
  image?: CheckedImage | undefined
  /** Names of rules that are left out. */
  silenced?: readonly string[] | undefined
}

export interface CheckedImage {
  /** The directory of the boot tree. */
  bootTree: string
  /** What the manifest says is in it. */
  bootFiles: readonly TreeFile[]
  /** What the manifest says is in the root tree, besides store paths. */
  rootFiles: readonly TreeFile[]
}
