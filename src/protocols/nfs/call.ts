/** A call of NFS, and the reading of its nodes and names. */
import { isDots } from '../../byte-paths.ts'
import type { Attributes, NodeId } from './file-system.ts'
import type { Credentials } from '../rpc/message.ts'
import type { XdrReader, XdrWriter } from '../rpc/xdr.ts'
import type { NfsMachine, Serve, ServedExport } from './machine.ts'
import { maxHandle, maxName, NfsError } from './protocol.ts'

const slash = 0x2f

export interface NfsCall {
  xid: number
  /** [RFC 1813 §3.3] */
  procedure: number
  credentials: Credentials
  arguments: XdrReader
  /** The reader's position before it read any argument. */
  argumentsStart: number
  /** The export of the first handle; later handles must be of the same export. */
  served: ServedExport
  /** The nodes of the handles, with their attributes before the call. */
  nodes: Attributes[]
  /** Facts for `observe`, if the procedure has them. */
  seen: { node?: NodeId; directory?: NodeId; name?: Buffer; bytes?: number }
}

/** A procedure of NFS. */
export interface NfsProcedure {
  name: string
  /**
   * In a failure, after the status, for each handle: its attributes, or its attributes before and
   * after.
   */
  failure: readonly ('attributes' | 'change')[]
  /**
   * Writes the results of success, after the status.
   *
   * @param node the node of the first handle
   * @returns what must be on stable storage before the results are sent: `structure`, or also the
   *   `data` of the node
   * @throws `NfsError` or `FileSystemError`; then nothing was changed
   */
  run: (call: NfsCall, node: Attributes, results: XdrWriter) => Awaited | undefined
}

export type Awaited = 'structure' | 'data'

/** Finds the export of the machine and the node for the first handle. */
export function openFirstNode(
  reader: XdrReader,
  machine: NfsMachine,
  serve: Serve,
): { served: ServedExport; node: Attributes } {
  const handle = reader.opaque(maxHandle)
  for (const exported of machine.exports) {
    const served = serve(exported)
    const id = served.handles.open(handle)
    if (id !== undefined) return { served, node: served.fileSystem.attributes(id) }
  }
  // The machine has lost its root, and the handle is of that root.
  if (machine.exports.length === 0) throw new NfsError('NFS3ERR_STALE')
  const isGenuine = machine.exports.some((exported) => serve(exported).handles.isGenuine(handle))
  throw new NfsError(isGenuine ? 'NFS3ERR_STALE' : 'NFS3ERR_BADHANDLE')
}

/** Reads a further handle, which must be of the same export. */
export function openNode({ arguments: reader, served, nodes }: NfsCall): Attributes {
  const handle = reader.opaque(maxHandle)
  const id = served.handles.open(handle)
  if (id === undefined) {
    throw new NfsError(served.handles.isGenuine(handle) ? 'NFS3ERR_XDEV' : 'NFS3ERR_BADHANDLE')
  }
  const node = served.fileSystem.attributes(id)
  nodes.push(node)
  return node
}

/** Reads a name to look up. */
export function readName(call: NfsCall): Buffer {
  // A copy, because the received bytes are valid only during the call.
  const name = Buffer.from(call.arguments.opaque())
  if (name.length > maxName) throw new NfsError('NFS3ERR_NAMETOOLONG')
  if (name.length === 0 || name.includes(0) || name.includes(slash)) {
    throw new NfsError('NFS3ERR_INVAL')
  }
  call.seen.name = name
  // The name is in the directory whose handle came before it.
  const directory = call.nodes.at(-1)
  if (directory) call.seen.directory = directory.id
  return name
}

/** Reads a name to add or to remove. @param ifDots the error for `.` and `..` */
export function readEntryName(call: NfsCall, ifDots: 'NFS3ERR_EXIST' | 'NFS3ERR_INVAL'): Buffer {
  const name = readName(call)
  if (isDots(name)) throw new NfsError(ifDots)
  return name
}
