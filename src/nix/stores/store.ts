/**
 * A store: something that can say what it knows of a store path, and hand over its NAR.
 *
 * Stores promise; whether what they hand over keeps the promise is checked in one place above
 * them, so that no store can forget to.
 */
import type { NarSource } from '../nar-source.ts'
import type { PathInfo } from '../path-info.ts'
import type { StorePath } from '../store-path.ts'

export interface Store {
  /** As the person named it, without credentials. */
  readonly url: string
  /** Lower is asked first, among stores that stand in the same place. */
  priority(): Promise<number>
  /** Whether its paths count without a signature. */
  readonly trusted: boolean
  /** What the store has of `path`; undefined where it does not have it. */
  lookup(path: StorePath): Promise<StoredPath | undefined>
  close(): Promise<void>
}

export interface StoredPath {
  info: PathInfo
  /** Brings the NAR to this machine, as it is: nothing of it is verified yet. */
  fetch(options: FetchOptions): Promise<NarSource>
}

export interface FetchOptions {
  /** An existing directory for what has to be downloaded. */
  scratch: string
  signal: AbortSignal
  /** Told of the bytes that came over the network; negative where they have to come again. */
  downloaded: (bytes: number) => void
}
