/**
 * File handles. A handle names a node and its layer, and proves that this server made it.
 *
 *     version 4 | layer 12 | node 8 | MAC 16      bytes
 *
 * The layer is the first bytes of the hash of its name. The MAC is BLAKE2s of the key followed by
 * the other bytes; with BLAKE2 this is safe, with SHA-256 it is not. Without the key, a client
 * cannot make or change a handle, so it cannot use nodes that it was not told.
 */
import { hash, timingSafeEqual } from 'node:crypto'
import type { NodeId } from './file-system.ts'
import { NfsError } from './protocol.ts'

export interface Handles {
  make(node: NodeId): Buffer
  /**
   * @returns undefined if the handle is not of this layer, or is not a handle at all
   * @throws `NfsError` `NFS3ERR_BADHANDLE` if this server did not make the handle
   */
  open(handle: Buffer): NodeId | undefined
  /** Whether this server made the handle, for any layer. */
  isGenuine(handle: Buffer): boolean
}

/** Version 1 also had the image. */
const version = 2
const tagBytes = 12
const nodeAt = 4 + tagBytes
const macAt = nodeAt + 8
const macBytes = 16
const handleBytes = macAt + macBytes
/** Each takes about 150 bytes, for each machine. */
const maxKept = 64
/** The length of the secret key. */
export const handleKeyBytes = 32

export function createHandles(key: Buffer, { layer }: { layer: string }): Handles {
  const prefix = Buffer.alloc(nodeAt)
  prefix.writeUInt32BE(version)
  prefix.set(tag(layer), 4)
  // Each call needs one or two MACs, and a listing one for each entry. So these are used again.
  const input = Buffer.concat([key, Buffer.alloc(macAt)])
  const mac = Buffer.alloc(macBytes)
  /** Some handles that were made or opened last, so that most calls need no MAC to open theirs. */
  const genuine: (Buffer | undefined)[] = Array.from({ length: maxKept })

  /** Writes the MAC of the handle to `into`. */
  function writeMac(handle: Buffer, into: Buffer, at: number): void {
    handle.copy(input, key.length, 0, macAt)
    // One byte for each character. A new buffer for each hash would take longer than the hash.
    into.write(hash('blake2s256', input, 'binary'), at, macBytes, 'binary')
  }

  function isGenuine(handle: Buffer): boolean {
    if (handle.length !== handleBytes) return false
    writeMac(handle, mac, 0)
    return timingSafeEqual(mac, handle.subarray(macAt))
  }

  return {
    make(node) {
      const handle = Buffer.alloc(handleBytes)
      prefix.copy(handle)
      handle.writeUInt32BE(Math.floor(node / 2 ** 32), nodeAt)
      handle.writeUInt32BE(node % 2 ** 32, nodeAt + 4)
      writeMac(handle, handle, macAt)
      genuine[node % maxKept] = handle
      return handle
    },
    open(handle) {
      if (handle.length !== handleBytes) return undefined
      const node = handle.readUInt32BE(nodeAt) * 2 ** 32 + handle.readUInt32BE(nodeAt + 4)
      const kept = genuine[node % maxKept]
      if (kept && timingSafeEqual(kept, handle)) return node
      if (prefix.compare(handle, 0, nodeAt) !== 0) return undefined
      if (!isGenuine(handle)) throw new NfsError('NFS3ERR_BADHANDLE')
      // A copy: the received bytes are valid only during the call.
      genuine[node % maxKept] = Buffer.from(handle)
      return node
    },
    isGenuine,
  }
}

function tag(name: string): Buffer {
  return hash('sha256', name, 'buffer').subarray(0, tagBytes)
}
