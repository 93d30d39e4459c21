/**
 * What a machine sees at `/`: the image below, the machine's own layer above.
 *
 * This is the seam between the NFS server and the layers: nodes by number, names as bytes, and
 * the errors of a Unix kernel. It knows structure, not permission: who may do what is decided
 * above it.
 */

/** A node's number: its `fileid`, the same as long as the layer lives. Safe integers. */
export type NodeId = number

export interface Time {
  /** Since 1970; may be negative. */
  seconds: number
  nanoseconds: number
}

export type NodeKind = 'file' | 'directory' | 'symlink' | 'character' | 'block' | 'fifo' | 'socket'

export interface Device {
  major: number
  minor: number
}

export interface Attributes {
  id: NodeId
  kind: NodeKind
  /** The lower twelve bits: permissions, setuid, setgid, sticky. */
  mode: number
  links: number
  uid: number
  gid: number
  /** Bytes. */
  size: number
  /** Bytes on the disk: less than `size` where the file is sparse. */
  used: number
  /** Of `character` and `block`; elsewhere zeros. */
  device: Device
  accessed: Time
  modified: Time
  changed: Time
}

/** What is to change; `changed` follows by itself. */
export interface AttributeChanges {
  mode?: number
  uid?: number
  gid?: number
  /** Truncates, or extends with a hole. */
  size?: number
  accessed?: Time
  modified?: Time
}

/** What `create` makes. */
export interface NewNode {
  kind: NodeKind
  mode: number
  uid: number
  gid: number
  /** Of `symlink`. */
  target?: Buffer
  /** Of `character` and `block`. */
  device?: Device
  /** Default: now. */
  accessed?: Time
  modified?: Time
}

export interface DirectoryEntry {
  name: Buffer
  node: NodeId
  /** Where a listing goes on after this entry; stays valid whatever changes in the directory. */
  cookie: number
}

export interface Space {
  /** Bytes. */
  total: number
  free: number
  /** Of what is free: without what the file system keeps for its administrator. */
  available: number
  files: number
  freeFiles: number
}

export type FileSystemErrorCode =
  | 'EACCES'
  /** It cannot be done now, and may be asked for again. */
  | 'EAGAIN'
  | 'EDQUOT'
  | 'EEXIST'
  | 'EFBIG'
  | 'EINVAL'
  | 'EIO'
  | 'EISDIR'
  | 'EMLINK'
  | 'ENAMETOOLONG'
  | 'ENOENT'
  | 'ENOSPC'
  | 'ENOTDIR'
  | 'ENOTEMPTY'
  | 'EPERM'
  | 'EROFS'
  | 'ESTALE'

/** An operation that did nothing, and why. */
export class FileSystemError extends Error {
  readonly code: FileSystemErrorCode

  constructor(code: FileSystemErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/**
 * All operations are done when they return, or throw a `FileSystemError` and have done nothing;
 * a node that is gone is `ESTALE`. What they did is on stable storage once `stable` (structure and
 * attributes) or `commit` (data as well) has come back after them.
 */
export interface FileSystem {
  readonly root: NodeId
  /** The largest file that there can be. Bytes. */
  readonly maxFileSize: number
  attributes(node: NodeId): Attributes
  /** Also `.` and `..`; the parent of the root is the root. */
  lookup(directory: NodeId, name: Buffer): NodeId | undefined
  /** @returns the bytes read: fewer than `into` holds only at the end of the file */
  read(file: NodeId, offset: number, into: Uint8Array): number
  readLink(link: NodeId): Buffer
  /** Entries after `cookie` (0: from the start), without `.` and `..`. */
  list(directory: NodeId, cookie: number): Iterable<DirectoryEntry>

  setAttributes(node: NodeId, changes: AttributeChanges): void
  /** @param mode that the file has from then on; nobody sees the data with the mode before */
  write(file: NodeId, offset: number, data: Uint8Array, mode?: number): void
  /** @throws `EEXIST` where the name is taken */
  create(directory: NodeId, name: Buffer, node: NewNode): NodeId
  link(node: NodeId, directory: NodeId, name: Buffer): void
  /** Anything but a directory. */
  remove(directory: NodeId, name: Buffer): void
  removeDirectory(directory: NodeId, name: Buffer): void
  rename(directory: NodeId, name: Buffer, toDirectory: NodeId, toName: Buffer): void

  space(): Space

  /** All operations so far, but for the data of files. */
  stable(): Promise<void>
  /** All operations so far, and the data of this file. */
  commit(file: NodeId): Promise<void>

  /**
   * All that is done within is one operation: an error undoes all of it, but for data that were
   * written. What removes is run a second time if the disk was full.
   */
  together<T>(action: () => T): T

  /** A reply to a request that must not be done twice, kept as stable as what the request did. */
  rememberReply(key: Buffer, reply: Buffer): void
  recallReply(key: Buffer): Buffer | undefined
}
