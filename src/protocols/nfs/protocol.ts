/** The numbers of NFS version 3 [RFC 1813] and MOUNT version 3 [RFC 1813, appendix I]. */
import type { FileSystemErrorCode, NodeKind } from './file-system.ts'

export const nfsProgram = 100003
export const nfsVersion = 3
export const mountProgram = 100005
export const mountVersion = 3

/** [§2.6, nfsstat3] */
export const status = {
  NFS3_OK: 0,
  NFS3ERR_PERM: 1,
  NFS3ERR_NOENT: 2,
  NFS3ERR_IO: 5,
  NFS3ERR_ACCES: 13,
  NFS3ERR_EXIST: 17,
  NFS3ERR_XDEV: 18,
  NFS3ERR_NOTDIR: 20,
  NFS3ERR_ISDIR: 21,
  NFS3ERR_INVAL: 22,
  NFS3ERR_FBIG: 27,
  NFS3ERR_NOSPC: 28,
  NFS3ERR_ROFS: 30,
  NFS3ERR_MLINK: 31,
  NFS3ERR_NAMETOOLONG: 63,
  NFS3ERR_NOTEMPTY: 66,
  NFS3ERR_DQUOT: 69,
  NFS3ERR_STALE: 70,
  NFS3ERR_BADHANDLE: 10001,
  NFS3ERR_NOT_SYNC: 10002,
  NFS3ERR_BAD_COOKIE: 10003,
  NFS3ERR_TOOSMALL: 10005,
  NFS3ERR_SERVERFAULT: 10006,
  NFS3ERR_BADTYPE: 10007,
  NFS3ERR_JUKEBOX: 10008,
} as const

export type FailureStatus = Exclude<keyof typeof status, 'NFS3_OK'>

/** The error of an operation that changed nothing. The client gets `status`. */
export class NfsError extends Error {
  override readonly name = 'NfsError'
  readonly status: FailureStatus

  constructor(status: FailureStatus) {
    super(status)
    this.status = status
  }
}

export const statusOfError = {
  EACCES: 'NFS3ERR_ACCES',
  EAGAIN: 'NFS3ERR_JUKEBOX',
  EDQUOT: 'NFS3ERR_DQUOT',
  EEXIST: 'NFS3ERR_EXIST',
  EFBIG: 'NFS3ERR_FBIG',
  EINVAL: 'NFS3ERR_INVAL',
  EIO: 'NFS3ERR_IO',
  EISDIR: 'NFS3ERR_ISDIR',
  EMLINK: 'NFS3ERR_MLINK',
  ENAMETOOLONG: 'NFS3ERR_NAMETOOLONG',
  ENOENT: 'NFS3ERR_NOENT',
  ENOSPC: 'NFS3ERR_NOSPC',
  ENOTDIR: 'NFS3ERR_NOTDIR',
  ENOTEMPTY: 'NFS3ERR_NOTEMPTY',
  EPERM: 'NFS3ERR_PERM',
  EROFS: 'NFS3ERR_ROFS',
  ESTALE: 'NFS3ERR_STALE',
  EXDEV: 'NFS3ERR_XDEV',
} as const satisfies Record<FileSystemErrorCode, FailureStatus>

/** [§2.6, ftype3] */
export const typeNumber = {
  file: 1,
  directory: 2,
  block: 3,
  character: 4,
  symlink: 5,
  socket: 6,
  fifo: 7,
} as const satisfies Record<NodeKind, number>

/** Bytes of one READ or WRITE. */
export const maxTransfer = 2 ** 20
/** The most bytes of one listing. The limit keeps every call short. */
export const preferredListing = 2 ** 16
/** Bytes. */
export const maxHandle = 64
export const maxName = 255
export const maxTarget = 4095

/** [§3.3.4] */
export const accessBit = {
  read: 0x01,
  lookup: 0x02,
  modify: 0x04,
  extend: 0x08,
  delete: 0x10,
  execute: 0x20,
} as const

/** [§3.3.7, stable_how] */
export const stability = { unstable: 0, dataSync: 1, fileSync: 2 } as const

/** [appendix I §5.1.2, mountstat3] */
export const mountStatus = {
  MNT3_OK: 0,
  MNT3ERR_NOENT: 2,
  MNT3ERR_IO: 5,
  MNT3ERR_ACCES: 13,
  MNT3ERR_NOTDIR: 20,
  MNT3ERR_NAMETOOLONG: 63,
  MNT3ERR_SERVERFAULT: 10006,
} as const
