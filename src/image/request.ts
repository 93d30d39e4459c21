/** What a person asks of a build. */
import type { BootSettings } from '../boot/request.ts'
import type { BootWay } from '../boot/ways.ts'
import type { StoreChoice } from '../nix/stores/choose.ts'
import type { Progress } from '../progress.ts'
import type { NetImageOptions } from './options.ts'

export interface BuildRequest extends StoreChoice {
  /** What a person names: a store path, a link to one, or a flake's host (`.#host`). */
  system: string
  options?: NetImageOptions
  /** Where the image goes. Default: `./<rootDirectoryName>`. */
  output?: string
  /** Whether an image that is there is replaced, once the new one is complete. */
  force?: boolean
  /** Default: `$XDG_CACHE_HOME/netimage`. */
  pool?: string
  /**
   * How files come from the pool where the file system cannot clone them. Default: `copy`, and
   * `hardlink` for an archive that no commands add to.
   */
  link?: 'hardlink' | 'copy'
  /** The root tree as a directory or as a tar archive. Default: `directory`. */
  format?: 'directory' | 'tar'
  /** Ways of booting that the boot tree is made for. Default: what the system calls for. */
  boot?: readonly BootWay[]
  /** Files and settings from outside the system that ways of booting take. */
  bootSettings?: BootSettings
  /** Rules of `check` that are left out. */
  silenced?: readonly string[]
  signal?: AbortSignal
  progress?: Progress
}
