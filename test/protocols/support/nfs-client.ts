// A client of NFS version 3 that sends single calls, and returns statuses and attributes unchanged.

import { XdrReader, type XdrWriter } from '../../../src/protocols/rpc/xdr.ts'
import { connectRpc, type Caller } from './rpc-client.ts'

/** All procedures except NULL, in the order of their numbers [RFC 1813 §3.3]. */
export const procedureNames = [
  ...(['GETATTR', 'SETATTR', 'LOOKUP', 'ACCESS', 'READLINK', 'READ', 'WRITE'] as const),
  ...(['CREATE', 'MKDIR', 'SYMLINK', 'MKNOD', 'REMOVE', 'RMDIR', 'RENAME', 'LINK'] as const),
  ...(['READDIR', 'READDIRPLUS', 'FSSTAT', 'FSINFO', 'PATHCONF', 'COMMIT'] as const),
]
export type ProcedureName = (typeof procedureNames)[number]

export function procedureNumber(name: ProcedureName): number {
  return procedureNames.indexOf(name) + 1
}

/** The parts of arguments: words, opaque bytes, strings, and the results of `wide` and `raw`. */
export type Part = number | string | Uint8Array | ((writer: XdrWriter) => void) | readonly Part[]

/** A number of 64 bits. */
export function wide(value: number): Part {
  return (writer) => writer.uint64(value)
}

/** Bytes without a length. */
export function raw(bytes: Uint8Array): Part {
  return (writer) => writer.fixed(bytes)
}

export type Wanted = {
  mode?: number
  uid?: number
  gid?: number
  size?: number
  accessed?: [number, number] | 'now'
  modified?: [number, number] | 'now'
}

/** sattr3 */
export function wanted({ mode, uid, gid, size, accessed, modified }: Wanted = {}): Part {
  const optional = (part: Part | undefined) => (part === undefined ? [0] : [1, part])
  const time = (time: [number, number] | 'now' | undefined) => {
    if (time === undefined) return [0]
    return time === 'now' ? [1] : [2, ...time]
  }
  return [
    ...[mode, uid, gid, size === undefined ? undefined : wide(size)].map(optional),
    ...[time(accessed), time(modified)],
  ]
}

export function writePart(writer: XdrWriter, part: Part): void {
  if (typeof part === 'number') writer.uint32(part)
  else if (typeof part === 'string') writer.string(part)
  else if (part instanceof Uint8Array) writer.opaque(part)
  else if (typeof part === 'function') part(writer)
  else for (const one of part) writePart(writer, one)
}

export type Results = { status: number; reader: XdrReader }

export type NfsClient = {
  ask: (name: ProcedureName, parts: Part, caller?: Caller) => Promise<Results>
  /** Sends a call that must succeed. */
  done: (name: ProcedureName, parts: Part, caller?: Caller) => Promise<XdrReader>
  /** Gets the first handle. */
  mount: (path: string | Buffer) => Promise<{ status: number; handle: Buffer }>
  /** Looks up names, one after the other, from a directory. */
  find: (from: Buffer, ...names: string[]) => Promise<Buffer>
  attributes: (handle: Buffer) => Promise<FileAttributes>
  socket: Awaited<ReturnType<typeof connectRpc>>['socket']
  [Symbol.dispose]: () => void
}

const [nfs, mount] = [100003, 100005]

/** @param port the port of NFS and MOUNT @param localAddress the address of the client */
export async function connectNfs(
  port: number,
  localAddress?: string,
  host?: string,
): Promise<NfsClient> {
  const rpc = await connectRpc(port, localAddress, host)
  const client: NfsClient = {
    socket: rpc.socket,
    async ask(name, parts, caller) {
      const reader = await rpc.call(
        nfs,
        procedureNumber(name),
        (writer) => writePart(writer, parts),
        caller,
      )
      return { status: reader.uint32(), reader }
    },
    async done(name, parts, caller) {
      const { status, reader } = await client.ask(name, parts, caller)
      if (status !== 0) throw new Error(`${name} failed with status ${status}`)
      return reader
    },
    async mount(path) {
      const reader = await rpc.call(mount, 1, (writer) => writer.opaque(Buffer.from(path)))
      const status = reader.uint32()
      return { status, handle: status === 0 ? Buffer.from(reader.opaque()) : Buffer.alloc(0) }
    },
    async find(from, ...names) {
      let handle = from
      for (const name of names) {
        handle = Buffer.from((await client.done('LOOKUP', [handle, name])).opaque())
      }
      return handle
    },
    attributes: async (handle) => readAttributes(await client.done('GETATTR', [handle])),
    [Symbol.dispose]: rpc[Symbol.dispose],
  }
  return client
}

/** Seconds and nanoseconds. */
export type WireTime = [number, number]

export type FileAttributes = {
  type: number
  mode: number
  links: number
  uid: number
  gid: number
  size: number
  used: number
  device: [number, number]
  fsid: number
  fileId: number
  accessed: WireTime
  modified: WireTime
  changed: WireTime
}

function readTime(reader: XdrReader): WireTime {
  return [reader.uint32(), reader.uint32()]
}

export function readAttributes(reader: XdrReader): FileAttributes {
  return {
    type: reader.uint32(),
    mode: reader.uint32(),
    links: reader.uint32(),
    uid: reader.uint32(),
    gid: reader.uint32(),
    size: reader.uint64(),
    used: reader.uint64(),
    device: [reader.uint32(), reader.uint32()],
    fsid: reader.uint64(),
    fileId: reader.uint64(),
    accessed: readTime(reader),
    modified: readTime(reader),
    changed: readTime(reader),
  }
}

/** post_op_attr */
export function readAfter(reader: XdrReader): FileAttributes | undefined {
  return reader.boolean() ? readAttributes(reader) : undefined
}

/** The bytes that READ gives. */
export function readData(reader: XdrReader): Buffer {
  readAfter(reader)
  reader.uint32()
  reader.boolean()
  return Buffer.from(reader.opaque())
}

export type Change = {
  before: { size: number; modified: WireTime; changed: WireTime } | undefined
  after: FileAttributes | undefined
}

/** wcc_data */
export function readChange(reader: XdrReader): Change {
  const before = reader.boolean()
    ? { size: reader.uint64(), modified: readTime(reader), changed: readTime(reader) }
    : undefined
  return { before, after: readAfter(reader) }
}

export type Made = { handle: Buffer; attributes: FileAttributes | undefined; change: Change }

/** Reads the results of CREATE, MKDIR, SYMLINK and MKNOD. */
export function readMade(reader: XdrReader): Made {
  if (!reader.boolean()) throw new Error('a handle is missing')
  const handle = Buffer.from(reader.opaque())
  return { handle, attributes: readAfter(reader), change: readChange(reader) }
}

export type Entry = {
  fileId: number
  name: Buffer
  cookie: number
  attributes?: FileAttributes | undefined
  handle?: Buffer
}

export type Listing = { verifier: Buffer; entries: Entry[]; isEnd: boolean; bytes: number }

/** @param isPlus whether the listing is of READDIRPLUS */
export function readListing(reader: XdrReader, isPlus = false): Listing {
  const start = reader.position
  readAfter(reader)
  const verifier = Buffer.from(reader.fixed(8))
  const entries: Entry[] = []
  while (reader.boolean()) {
    const fileId = reader.uint64()
    const name = Buffer.from(reader.opaque())
    const entry: Entry = { fileId, name, cookie: reader.uint64() }
    if (isPlus) {
      entry.attributes = readAfter(reader)
      if (reader.boolean()) entry.handle = Buffer.from(reader.opaque())
    }
    entries.push(entry)
  }
  return { verifier, entries, isEnd: reader.boolean(), bytes: reader.position - start }
}
