/**
 * A layer: the changes that one machine made over its image. The machine sees image and layer as
 * one file system.
 *
 * The layer keeps differences by the number of a node, not by its path. A node of the image keeps
 * its number if it changes. If a directory moves, everything below moves with it. Which numbers
 * nodes have, see numbers.ts. Reading a file does not change its time of access.
 */
import { createAncestry } from './ancestry.ts'
import { bindLayer, type Binding } from './bind.ts'
import { readKept } from './bind-record.ts'
import { noteCuts, unsettledCuts } from './cuts.ts'
import { openDataFiles, type DataFiles } from './data-files.ts'
import { openLayerDatabase, type LayerDatabase } from './database.ts'
import { createDirectories } from './directories.ts'
import { guarded, isFull, synced, SyncFailure } from './failure.ts'
import { largestFileIn } from './largest-file.ts'
import type { FileSystem, NodeId } from '../protocols/nfs/file-system.ts'
import { inTransaction } from './in-transaction.ts'
import type { ImageIndex } from './image-index.ts'
import type { KeptFiles } from './kept-files.ts'
import { layOver } from './lay-over.ts'
import { nodesWithData, overriddenDirectories, overriddenNodes } from './layer-changes.ts'
import { createDroppedDirectories } from './dropped-directories.ts'
import { createFileSystem } from './layer-file-system.ts'
import type { LayerImage } from './layer-image.ts'
import { createPathStructures } from './path-structures.ts'
import { createNodes } from './nodes.ts'
import { openReserve } from './reserve.ts'
import { openRoom } from './room.ts'
import type { Steps } from './steps.ts'
import { syncDirectorySoon } from '../sync-directory.ts'
import { dropUnsyncedCopies, noteCopies } from './unsynced-copies.ts'
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

/**
 * Layers whose disk failed to write something, by their directories. They take no more changes
 * until this process ends, even if they are closed and opened again.
 */
const failedLayers = new Map<string, SyncFailure>()

/** If more copies of files of the image are not on the disk yet, they are synced although nobody waits for it. */
const mostUnsynced = 32

export interface LayerOptions {
  /** The most bytes that the layer may take on the disk. Default: no limit. */
  most?: number | undefined
  /** Bytes that the server has taken for the machine elsewhere, which count as well. Default: none. */
  takenElsewhere?: (() => number) | undefined
  /** Called if the machine should ask for no changes until the promise is settled. Default: it may ask. */
  hold?: ((until: Promise<void>) => void) | undefined
  /** The layer is bound first. Default: it is over the images of the index already. */
  binding?: Binding | undefined
}

/**
 * The first step binds the layer, or throws `UnreadyLayer`.
 *
 * @param directory of the layer: it exists, and the caller holds the layer's lock
 * @throws `NetimageError` `bad-state`; `UnreadyLayer`, as `bindLayer`
 */
export function* openLayerInSteps(
  directory: string,
  index: ImageIndex,
  { most, takenElsewhere = () => 0, hold = () => {}, binding }: LayerOptions = {},
): Steps<Layer> {
  using unfinished = new DisposableStack()
  const database = unfinished.adopt(openLayerDatabase(directory), (opened) => opened.close())
  database.keepLog()
  dropUnsyncedCopies(database, directory)
  try {
    if (binding) yield* bindLayer(database, directory, index, binding, { most, takenElsewhere })
  } catch (error) {
    // The binding goes on with the database.
    if (error instanceof UnfinishedBinding) unfinished.move()
    throw error
  }
  const structures = createPathStructures(index, database)
  const image = yield* layOver(index, database, directory, structures.uses)
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
  const below = withFailures(image)
  const nodes = unfinished.adopt(
    createNodes(database, below, yield* overriddenNodes(database)),
    (opened) => opened.close(),
  )
  const directories = createDirectories(
    database,
    below,
    nodes,
    yield* overriddenDirectories(database),
  )
  const ancestry = createAncestry(nodes, image.store)
  /** Removed nodes whose data is still there, before the commit. */
  let going: NodeId[] = []
  /** The same after the commit. The data is deleted once the commit is on the disk. */
  let gone: NodeId[] = []
  let hasNewNames = true

  yield* matchData(database, data)
  for (const { node, size } of unsettledCuts(database)) guarded(() => data.cut(node, size))
  const reserve = openReserve(directory)

  const transactions = createTransactions({
    database,
    beforeCommit() {
      nodes.write()
      directories.write()
      noteCuts(database, data.cuts())
      noteCopies(database, data.unsyncedCopies())
    },
    afterCommit() {
      nodes.written()
      gone.push(...going)
      going = []
      data.settleSizes()
      structures.record()
      dropped.goOn()
      // Their numbers are written again with each commit.
      if (data.unsyncedCopies().length > mostUnsynced) transactions.stable().catch(() => {})
    },
    undone() {
      nodes.forget()
      directories.forget()
      going = []
      data.restoreSizes()
    },
    async beforeSync() {
      const removable = gone
      gone = []
      try {
        await syncNames()
        await data.syncShape()
        writeSynced()
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
    hold,
    failed: failedLayers.get(directory),
    onFailure: (error) => failedLayers.set(directory, error),
  })

  /** So that the names of the database, of its log and of the data folder outlast a loss of power. */
  async function syncNames(): Promise<void> {
    if (!hasNewNames) return
    await synced(syncDirectorySoon(directory))
    hasNewNames = false
  }

  function writeSynced(): void {
    const write = () => noteCopies(database, data.unsyncedCopies())
    try {
      write()
    } catch (error) {
      if (!isFull(error) || !reserve.giveUp()) throw error
      write()
    }
  }

  const dropped = createDroppedDirectories(database, transactions)

  const fileSystem = createFileSystem({
    ...{ database, data, nodes, directories, ancestry, image, room, transactions },
    maxFileSize: largestFileIn(directory),
    onGone: (node) => going.push(node),
    onDropped: (directory) => dropped.drop(directory),
  })
  const opened = unfinished.move()
  dropped.goOn()
  return {
    fileSystem,
    image,
    kept: readKept(database),
    async close() {
      try {
        // The log may be being emptied, and nothing can be written meanwhile.
        await Promise.all([data.stop(), dropped.stop(), transactions.stable()])
        structures.record()
        await transactions.stable()
        await database.moveLog()
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
function* matchData(database: LayerDatabase, data: DataFiles): Steps {
  const owned = yield* nodesWithData(database)
  const kept = yield* data.keepOnly(owned)
  if (kept.size < owned.size) {
    yield* inTransaction(database, loseData(database, owned, kept))
  }
}

function* loseData(
  database: LayerDatabase,
  owned: ReadonlySet<NodeId>,
  kept: ReadonlySet<NodeId>,
): Steps {
  for (const id of owned) {
    const row = kept.has(id) ? undefined : database.readNode(id)
    if (row) database.writeNode({ ...row, ownData: false })
    yield
  }
}
