/** The nodes of a layer: those of the image, and rows for what is new or changed. */
import type { LayerDatabase, NodeRow } from './database.ts'
import { failure } from './failure.ts'
import type { NewNode, NodeId, Time } from '../protocols/nfs/file-system.ts'
import { noDevice, type ImageIndex, type ImageNode } from './image-index.ts'

/** The numbers of new nodes begin here: no image has as many. */
export const firstNewNode = 2 ** 40

export type AnyNode = NodeRow | ImageNode

export function isRow(node: AnyNode): node is NodeRow {
  return 'ownData' in node
}

export interface Nodes {
  /** @throws `ESTALE` */
  find(id: NodeId): AnyNode
  /** @throws `ESTALE`, `ENOTDIR` */
  findDirectory(id: NodeId): AnyNode
  /** The node of the image that has this number, whatever the layer makes of it. */
  inImage(id: NodeId): ImageNode | undefined
  /** The node as a row that is about to be changed. */
  change(id: NodeId): NodeRow
  add(directory: NodeId, node: NewNode, time: Time): NodeRow
  /** Writes what was changed. */
  write(): void
  /** What was written is committed. */
  written(): void
  /** What was changed since is as it was before. */
  forget(): void
  close(): void
}

/** More than are made between two syncs; and there are numbers for billions of openings. */
const mayBeLost = 2 ** 20
/** Of all layers that are open; about 300 bytes each. */
const maxRemembered = 200_000
const memories = new Set<Memory>()
let allRemembered = 0

/** The rows of one layer that are remembered. */
interface Memory {
  size: () => number
  /** Whether they may be forgotten: not in the middle of an operation. */
  isIdle: () => boolean
  forget: () => void
}

/** The layer that has the most forgets them: others keep what they need. */
function makeRoom(): void {
  if (allRemembered < maxRemembered) return
  const idle = [...memories].filter((memory) => memory.isIdle())
  if (idle.length === 0) return
  idle.reduce((one, other) => (other.size() > one.size() ? other : one)).forget()
}

export function createNodes(database: LayerDatabase, index: ImageIndex): Nodes {
  const remembered = new Map<NodeId, NodeRow>()
  const changed = new Set<NodeRow>()
  const overridden = database.overriddenNodes(firstNewNode)
  let newlyOverridden: NodeId[] = []
  let writtenNext = Number(database.readMeta('nextNode') ?? firstNewNode)
  // A loss of power may have taken nodes that a machine was given handles of.
  let next = writtenNext === firstNewNode ? firstNewNode : writtenNext + mayBeLost

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

  function inImage(id: NodeId): ImageNode | undefined {
    return id < firstNewNode ? index.node(id) : undefined
  }

  function find(id: NodeId): AnyNode {
    const image = inImage(id)
    if (image && !overridden.has(id)) return image
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
    inImage,
    findDirectory(id) {
      const node = find(id)
      if (node.kind === 'directory') return node
      throw failure('ENOTDIR', `node ${id} is no directory`)
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
      for (const row of changed) {
        // The image's own stay as a note that they are gone.
        if (row.links === 0 && row.id >= firstNewNode) database.deleteNode(row.id)
        else database.writeNode(row)
      }
      // A number is never given twice: handles of what is gone would open something else.
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

function toRow({ id, kind, mode, uid, gid, links, device, parent, modified }: ImageNode): NodeRow {
  return {
    ...{ id, kind, mode, uid, gid, links, device, parent },
    target: undefined,
    ownData: false,
    accessed: modified,
    modified,
    changed: modified,
  }
}
