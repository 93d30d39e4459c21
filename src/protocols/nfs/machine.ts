/** The exports of machines, and the server's data about each export. */
import { hash, randomBytes } from 'node:crypto'
import type { FileSystem } from './file-system.ts'
import type { Caller } from '../rpc/program.ts'
import { createHandles, type Handles } from './handle.ts'

export interface NfsMachine {
  /** For `observe`. */
  name: string
  /** For reports: lower case with colons. */
  mac?: string
  /**
   * An export must stay the same object while the machine has it. A machine that runs, but has lost
   * its root, has no exports until it boots or mounts a root again.
   */
  exports: readonly NfsExport[]
}

export interface NfsExport {
  /** The path that the machine mounts: absolute, without a slash at the end. */
  path: string
  /**
   * The name of the layer. A layer gets a new name if it is reset, because it then has other nodes.
   */
  layer: string
  fileSystem: FileSystem
}

/**
 * Finds the machine that calls.
 *
 * - `busy`: this is not possible now, and the machine should ask again
 * - `second`: another machine with the same hardware address uses the root
 * - undefined: the machine is not served
 *
 * @param mounted the path, if the machine mounts it now
 */
export type MachineOf = (
  caller: Caller,
  mounted?: string,
) => NfsMachine | 'busy' | 'second' | undefined

export interface ServedExport {
  fileSystem: FileSystem
  handles: Handles
  /** Distinguishes the nodes of this export from those of others; the same after a restart. */
  fsid: number
  /** It never changes, because cookies stay valid if a directory changes. */
  cookieVerifier: Buffer
  /**
   * If this value changes, a client writes its uncommitted data again [RFC 1813 §3.3.21].
   */
  writeVerifier: Buffer
}

export type Serve = (exported: NfsExport) => ServedExport

export function createServe(handleKey: Buffer): Serve {
  const served = new WeakMap<NfsExport, ServedExport>()
  return (exported) => {
    const known = served.get(exported)
    if (known) return known
    const { layer, fileSystem } = exported
    const name = hash('sha256', layer, 'buffer')
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
