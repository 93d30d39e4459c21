/** The request for a build. */
import type { BootSettings } from '../boot/request.ts'
import type { BootWay } from '../boot/ways.ts'
import type { StoreChoice } from '../nix/stores/choose.ts'
import type { Progress } from '../progress.ts'
import type { NetImageOptions } from './options.ts'

export interface BuildRequest extends StoreChoice {
  /** A store path, a link to one, or a host of a flake (`.#host`). */
  system: string
  options?: NetImageOptions
  /** The path of the image. Default: `./<rootDirectoryName>`. */
  output?: string
  /** Whether to replace an existing image once the new image is complete. */
  force?: boolean
  /** The directory of the pool. Default: `$XDG_CACHE_HOME/netimage`. */
  pool?: string
  /**
   * How to take files from the pool if the file system cannot clone them. Default: `copy`, but
   * `hardlink` for an archive without commands.
   */
  link?: 'hardlink' | 'copy'
  /** The root tree as a directory or as a tar archive. Default: `directory`. */
  format?: 'directory' | 'tar'
  /** Ways of booting that the boot tree is made for. Default: those that the system asks for. */
  boot?: readonly BootWay[]
  /** Files and settings for ways of booting that do not come from the system. */
  bootSettings?: BootSettings
  /** Rules of `check` to leave out. */
  silenced?: readonly string[]
  signal?: AbortSignal
  progress?: Progress
}
