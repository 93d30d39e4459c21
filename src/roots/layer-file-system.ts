/**
 * The file system that a machine sees: its layer over the image. Each operation is done completely, or
 * not at all.
 */
import type { FileSystem, NodeId, Time } from '../protocols/nfs/file-system.ts'
import type { Ancestry } from './ancestry.ts'
import { createClock } from './clock.ts'
import type { DataFiles } from './data-files.ts'
import type { LayerDatabase } from './database.ts'
import type { NodeRow } from './layer-rows.ts'
import { checkName, type Directories } from './directories.ts'
import { asFailure, failure, guarded, SyncFailure } from './failure.ts'
import type { LayerImage } from './layer-image.ts'
import { isRow, type AnyNode, type Nodes } from './nodes.ts'
import { rootNode } from './numbers.ts'
import type { Room } from './room.ts'
import type { Transactions } from './transactions.ts'

export interface FileSystemParts {
  database: LayerDatabase
  data: DataFiles
  nodes: Nodes
  directories: Directories
  ancestry: Ancestry
  image: LayerImage
  room: Room
  transactions: Transactions
  /** Bytes. */
  maxFileSize: number
  /** Called in a transaction that removes a node with data of its own. */
  onGone: (node: NodeId) => void
  /** Called in a transaction that removes a directory. */
  onDropped: (directory: NodeId) => void
}

const keptReplies = 1024

/**
 * The log is emptied after this number of writes for which there is no room. Each write takes about a
 * kilobyte of the log.
 */
const overwritesInLog = 64

/** The size of a directory that machines see. Most file systems give this size. */
const directoryBytes = 4096

export function createFileSystem(parts: FileSystemParts): FileSystem {
  const { database, data, nodes, directories, ancestry, image, room, transactions } = parts
  const { maxFileSize, onGone, onDropped } = parts
  const now = createClock()
  /** Writes that overwrote data although there was no room. */
  let overwritten = 0
  let nextReply = Number(database.readMeta('nextReply') ?? 0)

  function sizeOf(node: AnyNode): { size: number; used: number } {
    if (node.kind === 'directory') return { size: directoryBytes, used: directoryBytes }
    if (!isRow(node)) return node
    if (node.target) return { size: node.target.length, used: 0 }
    if (node.ownData) return guarded(() => data.size(node.id))
    return nodes.inImage(node.id) ?? { size: 0, used: 0 }
  }

  function findFile(id: NodeId): AnyNode {
    const node = nodes.find(id)
    if (node.kind === 'file') return node
    if (node.kind === 'directory') throw failure('EISDIR', `node ${id} is a directory`)
    throw failure('EINVAL', `node ${id} is not a file`)
  }

  /** Only for a write for which there is no room: its new times must not take much room, either. */
  function overwrites(id: NodeId, offset: number, length: number): boolean {
    if (!data.overwrites(id, offset, length)) return false
    if (++overwritten % overwritesInLog === 0) transactions.emptyLog()
    return true
  }

  function mustFit(size: number): void {
    if (size > maxFileSize) throw failure('EFBIG', `no file can have ${size} bytes`)
  }

  /**
   * Gives the file data of its own, if it has none.
   *
   * @param bytes how many of the image's first bytes are copied
   * @throws `EAGAIN` while the bytes are being copied
   */
  function ownFile(id: NodeId, bytes: number): NodeRow {
    const row = nodes.change(id)
    if (!row.ownData) {
      data.create(id, nodes.inImage(id), bytes)
      row.ownData = true
    }
    return row
  }

  function need(directory: NodeId, name: Buffer): NodeId {
    checkName(name)
    const node = directories.lookup(directory, name)
    if (node === undefined) throw failure('ENOENT', `${name.toString()} does not exist`)
    return node
  }

  function mustBeFree(directory: NodeId, name: Buffer): void {
    checkName(name)
    if (directories.lookup(directory, name) === undefined) return
    throw failure('EEXIST', `${name.toString()} exists`)
  }

  function touch(directory: NodeId, time: Time, links: number): void {
    const row = nodes.change(directory)
    row.modified = time
    row.changed = time
    row.links += links
  }

  /** Takes one name from the node. A node without a name is gone. */
  function unlink(id: NodeId, time: Time): void {
    const row = nodes.change(id)
    row.changed = time
    row.links = row.kind === 'directory' ? 0 : row.links - 1
    if (row.links > 0) return
    if (row.kind === 'directory') onDropped(id)
    if (row.ownData) onGone(id)
    else data.dropCopy(id)
    row.ownData = false
  }

  function mustGiveWay(replaced: NodeId, isToDirectory: boolean): void {
    const isDirectory = nodes.find(replaced).kind === 'directory'
    if (isDirectory && !isToDirectory) throw failure('EISDIR', 'a directory has that name')
    if (!isDirectory && isToDirectory)
      throw failure('ENOTDIR', 'the existing name is not a directory')
    if (isDirectory) directories.mustBeEmpty(replaced)
  }

  return {
    root: rootNode,
    maxFileSize,

    attributes(id) {
      const node = nodes.find(id)
      const { kind, mode, links, uid, gid, device, modified } = node
      const { size, used } = sizeOf(node)
      const { accessed, changed } = isRow(node) ? node : { accessed: modified, changed: modified }
      return { id, kind, mode, links, uid, gid, size, used, device, accessed, modified, changed }
    },

    lookup: (directory, name) => directories.lookup(directory, name),
    list: (directory, cookie) => directories.list(directory, cookie),

    readLink(id) {
      const node = nodes.find(id)
      if (node.kind !== 'symlink') throw failure('EINVAL', `node ${id} is not a symbolic link`)
      if (isRow(node) && node.target) return node.target
      const inImage = nodes.inImage(id)
      return inImage ? guarded(() => image.readLink(inImage)) : Buffer.alloc(0)
    },

    read(id, offset, into) {
      const node = findFile(id)
      const inImage = nodes.inImage(id)
      return guarded(() => {
        if (isRow(node) && node.ownData) return data.read(id, offset, into)
        return inImage ? data.readImage(inImage, offset, into) : 0
      })
    },

    setAttributes(id, { size, mode, uid, gid, accessed, modified }) {
      if (size === undefined) nodes.find(id)
      else {
        const node = findFile(id)
        mustFit(size)
        // The first row of a file of the image. If a size is set, the file also gets its own data.
        if (!isRow(node)) room.takeName()
      }
      transactions.run(() => {
        if (size !== undefined && size < sizeOf(nodes.find(id)).size) transactions.givesRoom()
        const time = now()
        const row = size === undefined ? nodes.change(id) : ownFile(id, size)
        if (size !== undefined) {
          data.setSize(id, size)
          row.modified = time
        }
        if (mode !== undefined) row.mode = mode & 0o7777
        if (uid !== undefined) row.uid = uid
        if (gid !== undefined) row.gid = gid
        if (accessed) row.accessed = accessed
        if (modified) row.modified = modified
        row.changed = time
      })
    },

    write(id, offset, bytes, mode) {
      const node = findFile(id)
      // An empty write does not even change the times.
      if (bytes.length === 0) return
      mustFit(offset + bytes.length)
      room.takeToWrite(bytes.length, () =>
        guarded(() => isRow(node) && node.ownData && overwrites(id, offset, bytes.length)),
      )
      transactions.run(() => {
        const row = ownFile(id, Infinity)
        row.modified = now()
        row.changed = row.modified
        if (mode !== undefined) row.mode = mode & 0o7777
      })
      // After the transaction: if the transaction does not fit on a full disk, no data is written.
      // If the data does not fit, the times have changed. A kernel's file systems do the same.
      guarded(() => data.write(id, offset, bytes))
    },

    create(directory, name, node) {
      mustBeFree(directory, name)
      room.takeName()
      return transactions.run(() => {
        const time = now()
        const { id, kind } = nodes.add(directory, node, time)
        directories.put(directory, name, id)
        touch(directory, time, kind === 'directory' ? 1 : 0)
        return id
      })
    },

    link(id, directory, name) {
      mustBeFree(directory, name)
      if (nodes.find(id).kind === 'directory') {
        throw failure('EPERM', 'a directory cannot have a second name')
      }
      ancestry.mustStayInStore(id, undefined, directory)
      room.takeName()
      transactions.run(() => {
        const time = now()
        const row = nodes.change(id)
        row.links++
        row.changed = time
        directories.put(directory, name, id)
        touch(directory, time, 0)
      })
    },

    remove(directory, name) {
      const id = need(directory, name)
      if (nodes.find(id).kind === 'directory') throw failure('EISDIR', 'the name is a directory')
      transactions.run(() => {
        transactions.givesRoom()
        const time = now()
        directories.take(directory, name)
        unlink(id, time)
        touch(directory, time, 0)
      })
    },

    removeDirectory(directory, name) {
      const id = need(directory, name)
      directories.mustBeEmpty(id)
      transactions.run(() => {
        transactions.givesRoom()
        const time = now()
        directories.take(directory, name)
        unlink(id, time)
        touch(directory, time, -1)
      })
    },

    rename(directory, name, toDirectory, toName) {
      const moved = need(directory, name)
      checkName(toName)
      const replaced = directories.lookup(toDirectory, toName)
      if (moved === replaced) return
      ancestry.mustStayInStore(moved, directory, toDirectory)
      const isDirectory = nodes.find(moved).kind === 'directory'
      if (isDirectory && ancestry.isWithin(toDirectory, moved)) {
        throw failure('EINVAL', 'a directory cannot go below itself')
      }
      if (replaced !== undefined) {
        if (ancestry.isWithin(directory, replaced)) {
          throw failure('ENOTEMPTY', 'the new name is a directory that contains the moved one')
        }
        mustGiveWay(replaced, isDirectory)
      }
      transactions.run(() => {
        const time = now()
        directories.take(directory, name)
        if (replaced !== undefined) unlink(replaced, time)
        directories.put(toDirectory, toName, moved)
        const row = nodes.change(moved)
        row.changed = time
        if (isDirectory) row.parent = toDirectory
        touch(directory, time, isDirectory ? -1 : 0)
        touch(toDirectory, time, isDirectory && replaced === undefined ? 1 : 0)
      })
    },

    space: () => room.space(),

    stable: () => transactions.stable(),

    async commit(id) {
      const node = nodes.find(id)
      const ofData = isRow(node) && node.ownData ? data.sync(id) : undefined
      try {
        // Both at once, so that the disk can sync them together.
        await Promise.all([ofData, transactions.stable()])
      } catch (error) {
        if (error instanceof SyncFailure) transactions.fail(error)
        throw asFailure(error)
      }
    },

    together: (action) => transactions.together(action),

    rememberReply(key, reply) {
      transactions.run(() => {
        database.writeReply(nextReply++ % keptReplies, key, reply)
        database.writeMeta('nextReply', nextReply)
      })
    },
    recallReply: (key) => guarded(() => database.readReply(key)),
  }
}
