/**
 * A layer: what one machine changed over its image, as the file system that the machine sees.
 *
 * Differences are kept by the number of a node, not by its path: an image's node that changes keeps
 * its number, a directory that moves takes along what is below it, and what is new has a number above
 * all those of images. Reading a file does not change its time of access.
 */
import { openDataFiles, type DataFiles } from './data-files.ts'
import { openLayerDatabase, type LayerDatabase, type NodeRow } from './database.ts'
import { checkName, createDirectories } from './directories.ts'
import { createClock } from './clock.ts'
import { asFailure, failure, guarded, SyncFailure } from './failure.ts'
import { openFloor, spaceAboveFloor } from './floor.ts'
import { largestFileIn } from './largest-file.ts'
import type { FileSystem, NodeId, Time } from '../protocols/nfs/file-system.ts'
import type { ImageIndex } from './image-index.ts'
import { createNodes, isRow, type AnyNode } from './nodes.ts'
import { openReserve } from './reserve.ts'
import { mustBeOver } from './same-image.ts'
import { syncDirectory } from '../sync-directory.ts'
import { createTransactions } from './transactions.ts'

export interface Layer {
  fileSystem: FileSystem
  /** Everything is on the disk then, but for data that nobody committed. */
  close(): Promise<void>
}

const keptReplies = 1024
/**
 * How deep a directory may be that one is moved to, or from. A path has 4096 bytes at most, so
 * nobody can name a deeper one; and the walk up from it is to end soon.
 */
const maxDepth = 2048
/**
 * Layers whose disk failed to write something, by their directories: they take no more changes for
 * as long as this process runs, also when they are closed and opened again.
 */
const failedLayers = new Map<string, SyncFailure>()
/** About as much as a new name or a node that changes takes in the database and its log. */
const nameBytes = 8192
/** What a directory is said to hold, as most file systems say. */
const directoryBytes = 4096

/**
 * @param directory of the layer: it exists, and nobody else has it open
 * @throws `NetimageError` `bad-state`
 */
export function openLayer(directory: string, index: ImageIndex): Layer {
  using unfinished = new DisposableStack()
  const database = unfinished.adopt(openLayerDatabase(directory), (opened) => opened.close())
  mustBeOver(index, database, directory)
  const floor = openFloor(directory)
  const data = unfinished.adopt(openDataFiles(directory, index, floor), (opened) => opened.close())
  // The names of the database, of its log and of the folder with the data outlast a loss of power.
  syncDirectory(directory)
  const nodes = unfinished.adopt(createNodes(database, index), (opened) => opened.close())
  const directories = createDirectories(database, index, nodes)
  const now = createClock()
  let nextReply = Number(database.readMeta('nextReply') ?? 0)
  /** Their data are removed: once that is committed, and once it is on the disk. */
  let going: NodeId[] = []
  let gone: NodeId[] = []

  matchData(database, data)
  const maxFileSize = largestFileIn(directory)
  const reserve = openReserve(directory)

  const transactions = createTransactions({
    database,
    beforeCommit() {
      nodes.write()
      directories.write()
    },
    afterCommit() {
      nodes.written()
      gone.push(...going)
      going = []
      data.settleSizes()
    },
    undone() {
      nodes.forget()
      going = []
      data.restoreSizes()
    },
    async beforeSync() {
      const removable = gone
      gone = []
      try {
        await data.syncShape()
      } catch (error) {
        gone.push(...removable)
        throw error
      }
      return async () => {
        await Promise.all(removable.map((node) => data.remove(node)))
        reserve.take()
      }
    },
    giveUpReserve: () => reserve.giveUp(),
    failed: failedLayers.get(directory),
    onFailure: (error) => failedLayers.set(directory, error),
  })

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
    throw failure('EINVAL', `node ${id} is no file`)
  }

  function mustFit(size: number): void {
    if (size > maxFileSize) throw failure('EFBIG', `no file can have ${size} bytes`)
  }

  /**
   * The file's row, with data of its own.
   *
   * @param bytes how many of the image's first bytes they begin with
   * @throws `EAGAIN` while these are copied
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
    if (node === undefined) throw failure('ENOENT', `${name.toString()} is not there`)
    return node
  }

  function mustBeFree(directory: NodeId, name: Buffer): void {
    checkName(name)
    if (directories.lookup(directory, name) === undefined) return
    throw failure('EEXIST', `${name.toString()} is there`)
  }

  function touch(directory: NodeId, time: Time, links: number): void {
    const row = nodes.change(directory)
    row.modified = time
    row.changed = time
    row.links += links
  }

  /** The node has one name less. */
  function unlink(id: NodeId, time: Time): void {
    const row = nodes.change(id)
    row.changed = time
    row.links = row.kind === 'directory' ? 0 : row.links - 1
    if (row.links > 0) return
    if (row.kind === 'directory') directories.drop(id)
    if (row.ownData) going.push(id)
    else data.dropCopy(id)
    row.ownData = false
  }

  /** Whether the directory is the other one, or somewhere below it. @throws `ENAMETOOLONG` */
  function isWithin(directory: NodeId, other: NodeId): boolean {
    let at = directory
    for (let depth = 0; depth < maxDepth; depth++) {
      if (at === other) return true
      const { parent } = nodes.findDirectory(at)
      if (parent === at) return false
      at = parent
    }
    throw failure('ENAMETOOLONG', `a directory is more than ${maxDepth} directories deep`)
  }

  function mustGiveWay(replaced: NodeId, isToDirectory: boolean): void {
    const isDirectory = nodes.find(replaced).kind === 'directory'
    if (isDirectory && !isToDirectory) throw failure('EISDIR', 'a directory has that name')
    if (!isDirectory && isToDirectory)
      throw failure('ENOTDIR', 'what has that name is no directory')
    if (isDirectory) directories.mustBeEmpty(replaced)
  }

  const fileSystem: FileSystem = {
    root: index.rootNode,
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
      if (node.kind !== 'symlink') throw failure('EINVAL', `node ${id} is no symbolic link`)
      const image = nodes.inImage(id)
      if (image) return guarded(() => index.readLink(image))
      return (isRow(node) && node.target) || Buffer.alloc(0)
    },

    read(id, offset, into) {
      const node = findFile(id)
      const image = nodes.inImage(id)
      return guarded(() => {
        if (isRow(node) && node.ownData) return data.read(id, offset, into)
        return image ? data.readImage(image, offset, into) : 0
      })
    },

    setAttributes(id, { size, mode, uid, gid, accessed, modified }) {
      if (size === undefined) nodes.find(id)
      else findFile(id)
      if (size !== undefined) mustFit(size)
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
      findFile(id)
      // Not even the time of the last change is another then.
      if (bytes.length === 0) return
      mustFit(offset + bytes.length)
      floor.take(bytes.length + nameBytes)
      transactions.run(() => {
        const row = ownFile(id, Infinity)
        row.modified = now()
        row.changed = row.modified
        if (mode !== undefined) row.mode = mode & 0o7777
      })
      // After the transaction: if that does not fit on a full disk, the data are left alone. If the
      // data do not fit, the times have changed, as they have after a write that fails to a kernel's.
      guarded(() => data.write(id, offset, bytes))
    },

    create(directory, name, node) {
      mustBeFree(directory, name)
      floor.take(nameBytes)
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
      floor.take(nameBytes)
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
      if (nodes.find(id).kind === 'directory') throw failure('EISDIR', 'it is a directory')
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
      const isDirectory = nodes.find(moved).kind === 'directory'
      if (isDirectory && isWithin(toDirectory, moved)) {
        throw failure('EINVAL', 'a directory cannot go below itself')
      }
      if (replaced !== undefined) {
        if (isWithin(directory, replaced)) {
          throw failure('ENOTEMPTY', 'what moves is in the directory that has that name')
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

    space: () => guarded(() => spaceAboveFloor(directory)),

    stable: () => transactions.stable(),

    async commit(id) {
      const node = nodes.find(id)
      const ofData = isRow(node) && node.ownData ? data.sync(id) : undefined
      try {
        // At once: the disk waits for both together.
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

  const opened = unfinished.move()
  return {
    fileSystem,
    async close() {
      try {
        await data.stopCopies()
        await transactions.stable()
      } finally {
        opened.dispose()
      }
    },
  }
}

/** A loss of power leaves rows and files that have not been waited for, either without the other. */
function matchData(database: LayerDatabase, data: DataFiles): void {
  const owned = new Set(database.nodesWithData())
  const kept = data.keepOnly(owned)
  const missing = [...owned].filter((node) => !kept.has(node))
  database.begin()
  for (const id of missing) {
    const row = database.readNode(id)
    if (row) database.writeNode({ ...row, ownData: false })
  }
  database.commit()
}
