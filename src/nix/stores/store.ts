/**
 * A store describes store paths and fetches their NARs.
 *
 * A store does not verify the NARs. The pool verifies them all, so that no kind of store can forget
 * to do so.
 */
import type { NarSource } from '../nar-source.ts'
import type { PathInfo } from '../path-info.ts'
import type { StorePath } from '../store-path.ts'

export interface Store {
  /** The URL from the person, without credentials. */
  readonly url: string
  /** Among the stores of one `--from`, the one with the lowest priority is asked first. */
  priority(): Promise<number>
  /** Whether the store's paths need no signature. */
  readonly trusted: boolean
  /** @returns undefined if the store does not have the path */
  lookup(path: StorePath): Promise<StoredPath | undefined>
  close(): Promise<void>
}

export interface StoredPath {
  info: PathInfo
  /** Brings the NAR to this machine and verifies nothing. */
  fetch(options: FetchOptions): Promise<NarSource>
}

export interface FetchOptions {
  /** An existing directory for downloads. */
  scratch: string
  signal: AbortSignal
  /** Gets the number of downloaded bytes; a negative number if they must be downloaded again. */
  downloaded: (bytes: number) => void
}
