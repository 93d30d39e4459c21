/**
 * A layer: the changes that one machine made over its image. The machine sees image and layer as
 * one file system.
 *
 * The layer keeps differences by the number of a node, not by its path. A node of the image keeps
 * its number if it changes. If a directory moves, everything below moves with it. Which numbers
 * nodes have, see numbers.ts. Reading a file does not change its time of access.
 */
import { createAncestry } from './ancestry.ts'
import { bindLayer, readKept, type Binding } from './bind.ts'
import { noteCuts, unsettledCuts } from './cuts.ts'
import { openDataFiles, type DataFiles } from './data-files.ts'
import { openLayerDatabase, type LayerDatabase, type NodeRow } from './database.ts'
import { checkName, createDirectories } from './directories.ts'
import { createClock } from './clock.ts'
import { asFailure, failure, guarded, SyncFailure } from './failure.ts'
import { largestFileIn } from './largest-file.ts'
import type { FileSystem, NodeId, Time } from '../protocols/nfs/file-system.ts'
import type { ImageIndex } from './image-index.ts'
import type { KeptFiles } from './kept-files.ts'
import { layOver } from './lay-over.ts'
import type { LayerImage } from './layer-image.ts'
import { createPathStructures } from './path-structures.ts'
import { createNodes, isRow, type AnyNode } from './nodes.ts'
import { rootNode } from './numbers.ts'
import { openReserve } from './reserve.ts'
import { openRoom } from './room.ts'
import { syncDirectory } from '../sync-directory.ts'
import { createTransactions } from './transactions.ts'
import { UnfinishedBinding } from './unfinished-binding.ts'
import { measureFiles } from './usage.ts'

export interface Layer {
  fileSystem: FileSystem
  /** The image below, without the changes of the layer. */
  image: LayerImage
  /** What stayed at the last change of images although the image brought something else. */
  kept: KeptFiles
  /** Resolves once everything is on the disk, except data that the machine did not commit. */
  close(): Promise<void>
}

const keptReplies = 1024
/**
 * Layers whose disk failed to write something, by their directories. They take no more changes
 * until this process ends, even if they are closed and opened again.
 */
const failedLayers = new Map<string, SyncFailure>()
/** The log is emptied after so many writes for which there is no room. Each takes about a kilobyte. */
const overwritesInLog = 64
/** The size of a directory that machines see. Most file systems give this size. */
const directoryBytes = 4096

/**
 * @param directory of the layer: it exists, and the caller holds the layer's lock
 * @param most bytes that the layer may take on the disk; undefined: no limit
 * @param takenElsewhere bytes that the server has taken for the machine elsewhere, which count as well
 * @param binding undefined: the layer is over the images of the index already
 * @throws `NetimageError` `bad-state`; `UnreadyLayer`, as `bindLayer`
 */
export function openLayer(
  directory: string,
  index: ImageIndex,
  most?: number,
  binding?: Binding,
  takenElsewhere: () => number = () => 0,
): Layer {
  using unfinished = new DisposableStack()
  const database = unfinished.adopt(openLayerDatabase(directory), (opened) => opened.close())
  try {
    if (binding) bindLayer(database, directory, index, binding, { most, takenElsewhere })
  } catch (error) {
    // The binding goes on with the database.
    if (error instanceof UnfinishedBinding) unfinished.move()
    throw error
  }
  const structures = createPathStructures(index, database)
  const image = layOver(index, database, directory, structures.uses)
  const room = openRoom({
    directory,
    most,
    measure: () => ({
      all: data.used() + measureFiles(directory) + takenElsewhere(),
      reusable: database.reusableBytes(),
    }),
  })
  const data = unfinished.adopt(
    openDataFiles({ directory, image, room, isCounted: most !== undefined }),
    (opened) => opened.close(),
  )
  // So that the names of the database, of its log and of the data folder outlast a loss of power.
  syncDirectory(directory)
  const below = withFailures(image)
  const nodes = unfinished.adopt(createNodes(database, below), (opened) => opened.close())
  const directories = createDirectories(database, below, nodes)
  const ancestry = createAncestry(nodes, image.store)
  const now = createClock()
  /** Writes that overwrote data although there was no room. */
  let overwritten = 0
  let nextReply = Number(database.readMeta('nextReply') ?? 0)
  /** Removed nodes whose data is still there, before the commit. */
  let going: NodeId[] = []
  /** The same after the commit. The data is deleted once the commit is on the disk. */
  let gone: NodeId[] = []

  matchData(database, data)
  for (const { node, size } of unsettledCuts(database)) guarded(() => data.cut(node, size))
  const maxFileSize = largestFileIn(directory)
  const reserve = openReserve(directory)

  const transactions = createTransactions({
    database,
    beforeCommit() {
      nodes.write()
      directories.write()
      noteCuts(database, data.cuts())
    },
    afterCommit() {
      nodes.written()
      gone.push(...going)
      going = []
      data.settleSizes()
      structures.record()
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
    throw failure('EINVAL', `node ${id} is not a file`)
  }

  /** Only for a write for which there is no room: its new times must not take much room, either. */
  function overwrites(id: NodeId, offset: number, length: number): boolean {
    if (!data.overwrites(id, offset, length)) return false
    if (++overwritten % overwritesInLog === 0) database.emptyLog()
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
    if (row.kind === 'directory') directories.drop(id)
    if (row.ownData) going.push(id)
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

  const fileSystem: FileSystem = {
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

  const opened = unfinished.move()
  return {
    fileSystem,
    image,
    kept: readKept(database),
    async close() {
      try {
        await data.stop()
        structures.record()
        await transactions.stable()
      } finally {
        opened.dispose()
      }
    },
  }
}

/** The same image, whose errors are those of the file system that machines see. */
function withFailures(image: LayerImage): LayerImage {
  return {
    ...image,
    node: (id) => guarded(() => image.node(id)),
    childAt: (directory, place) => guarded(() => image.childAt(directory, place)),
    child: (directory, name) => guarded(() => image.child(directory, name)),
  }
}

/** After a loss of power, a row may be without its data file, or a data file without its row. */
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
