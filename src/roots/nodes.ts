/** The nodes of a layer: those of the image, and rows for what is new or changed. */
import type { LayerDatabase } from './database.ts'
import type { NodeRow } from './layer-rows.ts'
import { failure } from './failure.ts'
import type { Device, NewNode, NodeId, Time } from '../protocols/nfs/file-system.ts'
import { recordStructures } from './lay-over.ts'
import type { ImageNode, LayerImage } from './layer-image.ts'
import { firstOwn, isOwn } from './numbers.ts'

export type AnyNode = NodeRow | ImageNode

export function isRow(node: AnyNode): node is NodeRow {
  return 'ownData' in node
}

export interface Nodes {
  /** @throws `ESTALE` */
  find(id: NodeId): AnyNode
  /** @throws `ESTALE`, `ENOTDIR` */
  findDirectory(id: NodeId): AnyNode
  /** The node of the image that has this number, without the changes of the layer. */
  inImage(id: NodeId): ImageNode | undefined
  /** The node's row, for the caller to change. */
  change(id: NodeId): NodeRow
  add(directory: NodeId, node: NewNode, time: Time): NodeRow
  /** Writes the changed rows to the database. */
  write(): void
  /** Called when the written rows are committed. */
  written(): void
  /** Undoes all changes since the last commit. */
  forget(): void
  close(): void
}

/**
 * Numbers that are skipped at each opening: more than are given between two syncs. There are enough
 * numbers for hundreds of millions of openings.
 */
export const mayBeLost = 2 ** 20
/** Remembered rows of all open layers together; a row takes about 300 bytes. */
const maxRemembered = 200_000
const memories = new Set<Memory>()
let allRemembered = 0

/** The rows of one layer that are remembered. */
interface Memory {
  size: () => number
  /** Whether the rows may be forgotten: not in the middle of an operation. */
  isIdle: () => boolean
  forget: () => void
}

/** The layer with the most remembered rows forgets its rows. The other layers keep theirs. */
function makeRoom(): void {
  if (allRemembered < maxRemembered) return
  const idle = [...memories].filter((memory) => memory.isIdle())
  if (idle.length === 0) return
  idle.reduce((one, other) => (other.size() > one.size() ? other : one)).forget()
}

/** @param overridden the nodes of the image that have a row */
export function createNodes(
  database: LayerDatabase,
  image: LayerImage,
  overridden: Set<NodeId>,
): Nodes {
  const remembered = new Map<NodeId, NodeRow>()
  const changed = new Set<NodeRow>()
  let newlyOverridden: NodeId[] = []
  let writtenNext = Number(database.readMeta('nextNode') ?? firstOwn)
  // A loss of power may have taken nodes whose handles a machine still has.
  let next = writtenNext === firstOwn ? firstOwn : writtenNext + mayBeLost

  function remember(row: NodeRow): void {
    makeRoom()
    if (!remembered.has(row.id)) allRemembered++
    remembered.set(row.id, row)
  }

  function forgetAll(): void {
    allRemembered -= remembered.size
    remembered.clear()
  }

  const memory: Memory = {
    size: () => remembered.size,
    isIdle: () => changed.size === 0,
    forget: forgetAll,
  }
  memories.add(memory)

  function find(id: NodeId): AnyNode {
    const unchanged = overridden.has(id) ? undefined : image.node(id)
    if (unchanged) return unchanged
    let row = remembered.get(id)
    if (!row) {
      row = database.readNode(id)
      if (row) remember(row)
    }
    if (!row || row.links === 0) throw failure('ESTALE', `node ${id} is gone`)
    return row
  }

  return {
    find,
    inImage: (id) => image.node(id),
    findDirectory(id) {
      const node = find(id)
      if (node.kind === 'directory') return node
      throw failure('ENOTDIR', `node ${id} is not a directory`)
    },
    change(id) {
      const node = find(id)
      const row = isRow(node) ? node : toRow(node)
      if (row !== node) {
        overridden.add(id)
        newlyOverridden.push(id)
        remember(row)
      }
      changed.add(row)
      return row
    },
    add(directory, { kind, mode, uid, gid, target, device, accessed, modified }, time) {
      const row: NodeRow = {
        id: next++,
        kind,
        mode: mode & 0o7777,
        uid,
        gid,
        links: kind === 'directory' ? 2 : 1,
        device: device ?? noDevice,
        parent: kind === 'directory' ? directory : 0,
        target,
        ownData: false,
        accessed: accessed ?? time,
        modified: modified ?? time,
        changed: time,
      }
      remember(row)
      changed.add(row)
      return row
    },
    write() {
      recordStructures(newlyOverridden, image, database)
      for (const row of changed) {
        // The row of a node of the image stays, to tell that the node is gone.
        if (row.links === 0 && isOwn(row.id)) database.deleteNode(row.id)
        else database.writeNode(row)
      }
      // A number is never given twice: a handle of a removed node would open another node.
      if (next !== writtenNext) database.writeMeta('nextNode', next)
      writtenNext = next
    },
    written() {
      changed.clear()
      newlyOverridden = []
    },
    forget() {
      for (const { id } of changed) if (remembered.delete(id)) allRemembered--
      for (const id of newlyOverridden) overridden.delete(id)
      changed.clear()
      newlyOverridden = []
    },
    close() {
      forgetAll()
      memories.delete(memory)
    },
  }
}

const noDevice: Device = { major: 0, minor: 0 }

/** The row of a node that is as in the image. */
export function toRow({
  id,
  kind,
  mode,
  uid,
  gid,
  links,
  device,
  parent,
  modified,
}: ImageNode): NodeRow {
  return {
    ...{ id, kind, mode, uid, gid, links, device, parent },
    target: undefined,
    ownData: false,
    accessed: modified,
    modified,
    changed: modified,
  }
}
