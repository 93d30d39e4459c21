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
/** The length of the secret key. */
export const handleKeyBytes = 32

export function createHandles(key: Buffer, { layer }: { layer: string }): Handles {
  const prefix = Buffer.alloc(nodeAt)
  prefix.writeUInt32BE(version)
  prefix.set(tag(layer), 4)

  // Handles are not cached: making one takes microseconds, and a cache would need much memory.
  function make(node: NodeId): Buffer {
    const handle = Buffer.alloc(handleBytes)
    prefix.copy(handle)
    handle.writeBigUInt64BE(BigInt(node), nodeAt)
    handle.set(macOf(key, handle), macAt)
    return handle
  }

  return {
    make,
    open(handle) {
      if (handle.length !== handleBytes || prefix.compare(handle, 0, nodeAt) !== 0) return undefined
      const node = handle.readUInt32BE(nodeAt) * 2 ** 32 + handle.readUInt32BE(nodeAt + 4)
      if (!isGenuine(key, handle)) throw new NfsError('NFS3ERR_BADHANDLE')
      return node
    },
    isGenuine: (handle) => isGenuine(key, handle),
  }
}

function isGenuine(key: Buffer, handle: Buffer): boolean {
  if (handle.length !== handleBytes) return false
  return timingSafeEqual(macOf(key, handle), handle.subarray(macAt))
}

function macOf(key: Buffer, handle: Buffer): Buffer {
  const input = Buffer.concat([key, handle.subarray(0, macAt)])
  return hash('blake2s256', input, 'buffer').subarray(0, macBytes)
}

function tag(name: string): Buffer {
  return hash('sha256', name, 'buffer').subarray(0, tagBytes)
}
