/** What a machine may mount, and what is kept for each such export while the server runs. */
import { hash, randomBytes } from 'node:crypto'
import type { FileSystem } from './file-system.ts'
import type { Caller } from '../rpc/program.ts'
import { createHandles, type Handles } from './handle.ts'

export interface NfsMachine {
  /** For `observe`. */
  name: string
  /** For reports: lower case with colons. */
  mac?: string
  /** The same objects for as long as the machine has them. */
  exports: readonly NfsExport[]
}

export interface NfsExport {
  /** What the machine mounts: absolute, without a slash at its end. */
  path: string
  /** Names the layer; a layer that was reset has another name, for its nodes are others. */
  layer: string
  /** Names the image below: the same as long as its files are the same. */
  image: string
  fileSystem: FileSystem
}

/**
 * The machine that calls. `busy`: nothing can be told or done for now, and the machine should ask
 * again; undefined: it is none that is served.
 */
export type MachineOf = (caller: Caller) => NfsMachine | 'busy' | undefined

export interface ServedExport {
  fileSystem: FileSystem
  handles: Handles
  /** Tells its nodes from those of other exports; the same after a restart. */
  fsid: number
  /** Of listings. It never changes: cookies stay valid whatever happens in a directory. */
  cookieVerifier: Buffer
  /**
   * A client that meets another one than before writes again what it had not committed yet
   * [RFC 1813 §3.3.21].
   */
  writeVerifier: Buffer
}

export type Serve = (exported: NfsExport) => ServedExport

export function createServe(handleKey: Buffer): Serve {
  const served = new WeakMap<NfsExport, ServedExport>()
  return (exported) => {
    const known = served.get(exported)
    if (known) return known
    const { layer, image, fileSystem } = exported
    const name = hash('sha256', JSON.stringify([layer, image]), 'buffer')
    const made: ServedExport = {
      fileSystem,
      handles: createHandles(handleKey, exported),
      fsid: name.readUIntBE(0, 6),
      cookieVerifier: name.subarray(8, 16),
      writeVerifier: newWriteVerifier(),
    }
    served.set(exported, made)
    return made
  }
}

export function newWriteVerifier(): Buffer {
  return randomBytes(8)
}
