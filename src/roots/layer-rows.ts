/** The rows of the database of a layer: see database.ts. */
import type { SQLOutputValue } from 'node:sqlite'

import {
  nodeKinds,
  type Device,
  type NodeId,
  type NodeKind,
  type Time,
} from '../protocols/nfs/file-system.ts'
import { notALayer } from './database-file.ts'

/** A node that is new, or differs from the image's. */
export interface NodeRow {
  id: NodeId
  kind: NodeKind
  mode: number
  uid: number
  gid: number
  /** 0: the node is gone. */
  links: number
  device: Device
  /** Only of directories. */
  parent: NodeId
  target: Buffer | undefined
  /** Whether the data of the file is in the layer, not in the image. */
  ownData: boolean
  accessed: Time
  modified: Time
  changed: Time
}

export interface EntryRow {
  name: Buffer
  /** undefined: the machine removed this name of the image. */
  node: NodeId | undefined
  cookie: number
}

/** An entry with its directory. */
export interface PlacedEntry extends EntryRow {
  directory: NodeId
}

export function fromNodeRow(row: NodeRow): (number | string | Buffer | null)[] {
  const { accessed, modified, changed } = row
  return [
    ...[row.id, row.kind, row.mode, row.uid, row.gid, row.links],
    ...[row.device.major, row.device.minor, row.parent, row.target ?? null, row.ownData ? 1 : 0],
    ...[accessed.seconds, accessed.nanoseconds, modified.seconds, modified.nanoseconds],
    ...[changed.seconds, changed.nanoseconds],
  ]
}

export function toNodeRow(row: Record<string, SQLOutputValue>, file: string): NodeRow {
  const number = (name: string) => Number(row[name])
  const time = (name: string) => ({
    seconds: number(`${name}_s`),
    nanoseconds: number(`${name}_ns`),
  })
  const kind = nodeKinds.find((known) => known === row['kind'])
  if (!kind) throw notALayer(file, `node ${String(row['id'])} is of an unknown kind`)
  const { target } = row
  return {
    id: number('id'),
    kind,
    mode: number('mode'),
    uid: number('uid'),
    gid: number('gid'),
    links: number('links'),
    device: { major: number('major'), minor: number('minor') },
    parent: number('parent'),
    target: target instanceof Uint8Array ? Buffer.from(target) : undefined,
    ownData: number('own_data') !== 0,
    accessed: time('accessed'),
    modified: time('modified'),
    changed: time('changed'),
  }
}

export function toPlacedEntry(row: Record<string, SQLOutputValue>): PlacedEntry {
  return { ...toEntryRow(row), directory: Number(row['directory']) }
}

export function toEntryRow(row: Record<string, SQLOutputValue | Buffer>): EntryRow {
  const { name, node, cookie } = row
  return {
    name: bytesOf(name),
    node: typeof node === 'number' ? node : undefined,
    cookie: Number(cookie),
  }
}

export function bytesOf(value: SQLOutputValue | Buffer | undefined): Buffer {
  if (!(value instanceof Uint8Array)) return Buffer.alloc(0)
  // The row belongs to the caller, so its bytes need no copy.
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength)
}
