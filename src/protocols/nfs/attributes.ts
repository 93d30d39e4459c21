/** The encoding of attributes in calls and replies [RFC 1813 §2.6]. */
import { FileSystemError, type Attributes, type NodeId, type Time } from './file-system.ts'
import { XdrError, type XdrReader, type XdrWriter } from '../rpc/xdr.ts'
import type { ServedExport } from './machine.ts'
import { typeNumber } from './protocol.ts'

/** The attributes that a client wants to set (sattr3). */
export interface WantedAttributes {
  mode?: number
  uid?: number
  gid?: number
  size?: number
  /** `now`: by the server's clock. */
  accessed?: Time | 'now'
  modified?: Time | 'now'
}

const setTime = { dont: 0, toServerTime: 1, toClientTime: 2 } as const

export function readWantedAttributes(reader: XdrReader): WantedAttributes {
  const wanted: WantedAttributes = {}
  if (reader.boolean()) wanted.mode = reader.uint32() & 0o7777
  if (reader.boolean()) wanted.uid = reader.uint32()
  if (reader.boolean()) wanted.gid = reader.uint32()
  if (reader.boolean()) wanted.size = reader.uint64()
  const accessed = readWantedTime(reader)
  if (accessed) wanted.accessed = accessed
  const modified = readWantedTime(reader)
  if (modified) wanted.modified = modified
  return wanted
}

function readWantedTime(reader: XdrReader): Time | 'now' | undefined {
  const how = reader.uint32()
  if (how === setTime.dont) return undefined
  if (how === setTime.toServerTime) return 'now'
  if (how === setTime.toClientTime) return readTime(reader)
  throw new XdrError(`${how} is not a way to set a time`)
}

export function readTime(reader: XdrReader): Time {
  const seconds = reader.uint32()
  const nanoseconds = reader.uint32()
  if (nanoseconds >= 1e9) throw new XdrError(`a second does not have ${nanoseconds} nanoseconds`)
  return { seconds, nanoseconds }
}

/**
 * Whether a time is the one that the client was told. The client has only 32 bits of the seconds.
 */
export function isToldTime(time: Time, told: Time): boolean {
  return time.seconds >>> 0 === told.seconds && time.nanoseconds === told.nanoseconds
}

/** fattr3 */
export function writeAttributes(results: XdrWriter, attributes: Attributes, fsid: number): void {
  results.uint32(typeNumber[attributes.kind])
  results.uint32(attributes.mode)
  results.uint32(attributes.links)
  results.uint32(attributes.uid)
  results.uint32(attributes.gid)
  results.uint64(attributes.size)
  results.uint64(attributes.used)
  results.uint32(attributes.device.major)
  results.uint32(attributes.device.minor)
  results.uint64(fsid)
  results.uint64(attributes.id)
  writeTime(results, attributes.accessed)
  writeTime(results, attributes.modified)
  writeTime(results, attributes.changed)
}

/** The seconds wrap around before 1970 and after 2106, as in the kernel's server. */
function writeTime(results: XdrWriter, { seconds, nanoseconds }: Time): void {
  results.uint32(seconds >>> 0)
  results.uint32(nanoseconds)
}

/** post_op_attr of a node that the call does not change: its attributes are read already. */
export function writeAttributesNow(
  results: XdrWriter,
  { fsid }: ServedExport,
  node: Attributes,
): void {
  results.boolean(true)
  writeAttributes(results, node, fsid)
}

/** post_op_attr: the attributes after the call. */
export function writeAttributesAfter(
  results: XdrWriter,
  { fileSystem, fsid }: ServedExport,
  node: NodeId,
): void {
  const attributes = attributesIfThere(fileSystem, node)
  results.boolean(attributes !== undefined)
  if (attributes) writeAttributes(results, attributes, fsid)
}

/** wcc_data: the client compares it to see whether other clients changed the node too. */
export function writeChange(results: XdrWriter, served: ServedExport, before: Attributes): void {
  results.boolean(true)
  results.uint64(before.size)
  writeTime(results, before.modified)
  writeTime(results, before.changed)
  writeAttributesAfter(results, served, before.id)
}

function attributesIfThere(
  fileSystem: ServedExport['fileSystem'],
  node: NodeId,
): Attributes | undefined {
  try {
    return fileSystem.attributes(node)
  } catch (error) {
    if (error instanceof FileSystemError) return undefined
    throw error
  }
}
