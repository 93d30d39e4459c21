/** The permission checks of a Unix kernel. They throw `NfsError` if an operation is not allowed. */
import type { Attributes, AttributeChanges, NodeKind, Time } from './file-system.ts'
import type { Credentials } from '../rpc/message.ts'
import type { WantedAttributes } from './attributes.ts'
import { NfsError } from './protocol.ts'

export const may = { read: 4, write: 2, execute: 1 } as const

const setuid = 0o4000
const setgid = 0o2000
const sticky = 0o1000
const groupExecute = 0o010
const anyExecute = 0o111

/** Whether the mode allows all of the wanted bits of `may`. */
export function permits(
  { kind, mode, uid, gid }: Attributes,
  credentials: Credentials,
  wanted: number,
): boolean {
  if (credentials.uid === 0) {
    // Root has all rights, except to execute a file without any execute bit.
    return kind === 'directory' || (wanted & may.execute) === 0 || (mode & anyExecute) !== 0
  }
  let bits = mode
  if (credentials.uid === uid) bits = mode >> 6
  else if (isMember(credentials, gid)) bits = mode >> 3
  return (bits & wanted) === wanted
}

function isMember({ gid, groups }: Credentials, group: number): boolean {
  return gid === group || groups.includes(group)
}

function isOwner({ uid }: Credentials, attributes: Attributes): boolean {
  return uid === 0 || uid === attributes.uid
}

export function requirePermission(
  attributes: Attributes,
  credentials: Credentials,
  wanted: number,
): void {
  if (!permits(attributes, credentials, wanted)) throw new NfsError('NFS3ERR_ACCES')
}

/** Requires that the caller may look up names in the directory. */
export function requireSearch(directory: Attributes, credentials: Credentials): void {
  if (directory.kind !== 'directory') throw new NfsError('NFS3ERR_NOTDIR')
  requirePermission(directory, credentials, may.execute)
}

/** Requires that the caller may add and remove names in the directory. */
export function requireModification(directory: Attributes, credentials: Credentials): void {
  if (directory.kind !== 'directory') throw new NfsError('NFS3ERR_NOTDIR')
  requirePermission(directory, credentials, may.write | may.execute)
}

/** Requires that the caller may remove a node from a sticky directory. */
export function requireRemoval(
  directory: Attributes,
  node: Attributes,
  credentials: Credentials,
): void {
  if ((directory.mode & sticky) === 0) return
  if (!isOwner(credentials, directory) && !isOwner(credentials, node)) {
    throw new NfsError('NFS3ERR_PERM')
  }
}

/**
 * Requires that the caller may read the file. The owner always may: a program may open a file, and
 * then remove its own permission. A caller with the execute permission may too, because the client
 * reads a program to run it [RFC 1813 §4.4].
 */
export function requireReading(file: Attributes, credentials: Credentials): void {
  requireContent(file)
  if (credentials.uid === file.uid || permits(file, credentials, may.execute)) return
  requirePermission(file, credentials, may.read)
}

/** Requires that the caller may write to the file. The owner always may. */
export function requireWriting(file: Attributes, credentials: Credentials): void {
  requireContent(file)
  if (credentials.uid !== file.uid) requirePermission(file, credentials, may.write)
}

function requireContent({ kind }: Attributes): void {
  if (kind === 'directory') throw new NfsError('NFS3ERR_ISDIR')
  if (kind !== 'file') throw new NfsError('NFS3ERR_INVAL')
}

/** @returns the mode of a file after a write; undefined if it does not change */
export function modeAfterWriting(file: Attributes, credentials: Credentials): number | undefined {
  if (credentials.uid === 0) return undefined
  const mode = withoutPrivileges(file.mode, file.gid, credentials)
  return mode === file.mode ? undefined : mode
}

/**
 * Setgid without group execution gives no rights. But a caller outside of the group must not leave
 * the bit set, because group execution may be added later.
 */
function withoutPrivileges(mode: number, gid: number, credentials: Credentials): number {
  const left = mode & ~setuid
  return (left & groupExecute) === 0 ? withoutForeignSetgid(left, gid, credentials) : left & ~setgid
}

/**
 * The owner, group and mode of a new node. In a setgid directory, it gets the directory's group.
 */
export function ownershipOfNew(
  kind: NodeKind,
  wanted: WantedAttributes,
  directory: Attributes,
  credentials: Credentials,
): { mode: number; uid: number; gid: number } {
  const inherits = (directory.mode & setgid) !== 0
  let gid = inherits ? directory.gid : credentials.gid
  let uid = credentials.uid
  let mode = wanted.mode ?? 0
  if (inherits && kind === 'directory') mode |= setgid
  else if ((mode & groupExecute) !== 0) mode = withoutForeignSetgid(mode, gid, credentials)
  if (credentials.uid === 0) {
    uid = wanted.uid ?? uid
    gid = wanted.gid ?? gid
  }
  return { mode, uid, gid }
}

/** Only members of a group (and root) may set setgid for the group. */
function withoutForeignSetgid(mode: number, gid: number, credentials: Credentials): number {
  return credentials.uid === 0 || isMember(credentials, gid) ? mode : mode & ~setgid
}

/** The changes that SETATTR makes for this caller. @throws `NfsError` if one is not allowed */
export function allowedChanges(
  node: Attributes,
  wanted: WantedAttributes,
  credentials: Credentials,
  now: Time,
): AttributeChanges {
  const changes: AttributeChanges = {}
  if (wanted.size !== undefined) {
    requireWriting(node, credentials)
    changes.size = wanted.size
    const mode = modeAfterWriting(node, credentials)
    if (mode !== undefined) changes.mode = mode
  }
  requireOwnerFor(node, wanted, credentials)
  if (wanted.uid !== undefined) changes.uid = wanted.uid
  if (wanted.gid !== undefined) changes.gid = wanted.gid
  const changesOwner = wanted.uid !== undefined || wanted.gid !== undefined
  if (wanted.mode !== undefined) {
    changes.mode = withoutForeignSetgid(wanted.mode, wanted.gid ?? node.gid, credentials)
  }
  if (changesOwner && node.kind !== 'directory') {
    changes.mode = withoutPrivileges(changes.mode ?? node.mode, node.gid, credentials)
  }
  for (const which of ['accessed', 'modified'] as const) {
    const time = wanted[which]
    if (time !== undefined) changes[which] = time === 'now' ? now : time
  }
  return changes
}

function requireOwnerFor(
  node: Attributes,
  wanted: WantedAttributes,
  credentials: Credentials,
): void {
  if (credentials.uid === 0) return
  const owns = credentials.uid === node.uid
  if (wanted.mode !== undefined && !owns) throw new NfsError('NFS3ERR_PERM')
  if (wanted.uid !== undefined && !(owns && wanted.uid === node.uid)) {
    throw new NfsError('NFS3ERR_PERM')
  }
  const { gid } = wanted
  if (gid !== undefined && !(owns && (gid === node.gid || isMember(credentials, gid)))) {
    throw new NfsError('NFS3ERR_PERM')
  }
  const times = [wanted.accessed, wanted.modified].filter((time) => time !== undefined)
  if (times.length === 0 || owns) return
  // A caller with the write permission may set the times to now: `touch` and O_TRUNC need this.
  if (times.some((time) => time !== 'now')) throw new NfsError('NFS3ERR_PERM')
  requirePermission(node, credentials, may.write)
}
