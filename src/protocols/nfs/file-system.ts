/**
 * The file system that a machine has at `/`: the image, and above it the machine's own layer.
 *
 * This is the interface between the NFS server and the layers. Nodes are numbers, names are bytes,
 * and errors are those of a Unix kernel. It does not check permissions: the NFS server does.
 */

/** A node's number, its `fileid`: a safe integer that never changes while the layer exists. */
export type NodeId = number

export interface Time {
  /** Since 1970; may be negative. */
  seconds: number
  nanoseconds: number
}

export const nodeKinds = [
  ...(['file', 'directory', 'symlink', 'character', 'block', 'fifo', 'socket'] as const),
] as const

export type NodeKind = (typeof nodeKinds)[number]

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
  /** Bytes on the disk: less than `size` if the file is sparse. */
  used: number
  /** For `character` and `block`; zeros for other kinds. */
  device: Device
  accessed: Time
  modified: Time
  changed: Time
}

/** The attributes to change; `changed` is then set to the present time. */
export interface AttributeChanges {
  mode?: number
  uid?: number
  gid?: number
  /** Truncates, or extends with a hole. */
  size?: number
  accessed?: Time
  modified?: Time
}

/** A node for `create`. */
export interface NewNode {
  kind: NodeKind
  mode: number
  uid: number
  gid: number
  /** For `symlink`. */
  target?: Buffer
  /** For `character` and `block`. */
  device?: Device
  /** Default: now. */
  accessed?: Time
  modified?: Time
}

export interface DirectoryEntry {
  name: Buffer
  node: NodeId
  /** The position for listing the next entries. It stays valid if the directory changes. */
  cookie: number
}

export interface Space {
  /** Bytes. */
  total: number
  free: number
  /** The free bytes without those that the file system reserves for its administrator. */
  available: number
  files: number
  freeFiles: number
}

export type FileSystemErrorCode =
  | 'EACCES'
  /** The operation is not possible now; the client should try again. */
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
  /** The node cannot be moved or linked there, as between two disks. The client may copy it. */
  | 'EXDEV'

/** The error of an operation that changed nothing. */
export class FileSystemError extends Error {
  readonly code: FileSystemErrorCode
  /** With `EAGAIN`: the operation may be possible when this has resolved. */
  readonly until: Promise<void> | undefined

  constructor(
    code: FileSystemErrorCode,
    message: string,
    { until, ...options }: ErrorOptions & { until?: Promise<void> } = {},
  ) {
    super(message, options)
    this.code = code
    this.until = until
  }
}

/**
 * Each operation is complete when it returns, or it throws a `FileSystemError` and has changed
 * nothing. For a node that does not exist any more, the error is `ESTALE`. The changes are on
 * stable storage when a later `stable` (structure and attributes) or `commit` (also data) is
 * fulfilled.
 */
export interface FileSystem {
  readonly root: NodeId
  /** The size limit of a file. Bytes. */
  readonly maxFileSize: number
  attributes(node: NodeId): Attributes
  /** `.` and `..` are allowed; the parent of the root is the root. */
  lookup(directory: NodeId, name: Buffer): NodeId | undefined
  /** @returns the number of bytes read; less than the size of `into` only at the end of the file */
  read(file: NodeId, offset: number, into: Uint8Array): number
  readLink(link: NodeId): Buffer
  /** Entries after `cookie` (0: from the start), without `.` and `..`. */
  list(directory: NodeId, cookie: number): Iterable<DirectoryEntry>

  setAttributes(node: NodeId, changes: AttributeChanges): void
  /**
   * @param mode the new mode, set before the data are written: no client sees new data with the old
   * mode
   * @throws `EFBIG` if the file would have more than `maxFileSize` bytes
   */
  write(file: NodeId, offset: number, data: Uint8Array, mode?: number): void
  /** @throws `EEXIST` if the name exists */
  create(directory: NodeId, name: Buffer, node: NewNode): NodeId
  link(node: NodeId, directory: NodeId, name: Buffer): void
  /** Removes a node that is not a directory. */
  remove(directory: NodeId, name: Buffer): void
  removeDirectory(directory: NodeId, name: Buffer): void
  rename(directory: NodeId, name: Buffer, toDirectory: NodeId, toName: Buffer): void

  space(): Space

  /** Makes all operations so far stable, except the data of files. */
  stable(): Promise<void>
  /** Makes all operations so far stable, and the data of this file. */
  commit(file: NodeId): Promise<void>

  /**
   * Makes all changes of `action` one operation: an error undoes all of them, except written data.
   * If the disk is full, an action that removes something is run a second time.
   */
  together<T>(action: () => T): T

  /**
   * Keeps the reply to a request that must not run twice, as stable as the changes of the request.
   */
  rememberReply(key: Buffer, reply: Buffer): void
  recallReply(key: Buffer): Buffer | undefined
}
