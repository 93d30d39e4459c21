/**
 * The data of files. If the layer has no data of a node, the data is read from the image. If the
 * layer has data of a node, it is in a file of its own: `data/<node in hex>`.
 */
import {
  closeSync,
  fstatSync,
  fsync,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  openSync,
  opendirSync,
  readSync,
  renameSync,
  rmSync,
  unlink,
  writeSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'

import { makeDirectory } from '../make-directory.ts'
import { createCopies, isCopy } from './copies.ts'
import { cloneFile, copyFile } from './copy-file.ts'
import { openRegularFile } from '../open-safely.ts'
import type { NodeId } from '../protocols/nfs/file-system.ts'
import type { ImageNode, LayerImage } from './layer-image.ts'
import { guarded, synced } from './failure.ts'
import { removeLeftFiles, type LeftFiles } from './left-files.ts'
import { createOpenFiles } from './open-files.ts'
import type { Room } from './room.ts'
import type { Steps } from './steps.ts'
import { shareSyncs } from './shared-syncs.ts'
import { countUsage } from './usage.ts'

export interface DataFiles {
  size(node: NodeId): { size: number; used: number }
  read(node: NodeId, offset: number, into: Uint8Array): number
  readImage(node: ImageNode, offset: number, into: Uint8Array): number
  /**
   * Writes data. This stays, even if the operation is undone. A size that was set for the node is
   * settled first.
   */
  write(node: NodeId, offset: number, data: Uint8Array): void
  /**
   * Whether all bytes of this range have blocks on the disk already. False if this is not known: a
   * block of zeros may be a hole.
   */
  overwrites(node: NodeId, offset: number, length: number): boolean
  /**
   * Sets the size so that it can still be undone: a file grows at once, but data is cut off only
   * when the size is settled.
   *
   * @throws `EFBIG`; the size is not changed then
   */
  setSize(node: NodeId, size: number): void
  /** The files that are cut off when the sizes are settled, with their new sizes. */
  cuts(): [node: NodeId, size: number][]
  /** Cuts off a file whose size was set, but not settled before the server was killed. */
  cut(node: NodeId, size: number): void
  /** Called when the operation is done: makes all set sizes final. */
  settleSizes(): void
  /** Called when the operation is undone: gives all files the size that they had before. */
  restoreSizes(): void
  /**
   * Makes the node's own file: empty, or with the data of the image.
   *
   * @param bytes how many of the image's first bytes the file needs
   * @throws `EAGAIN` while many bytes are being copied, or `ENOSPC`; no file is made then
   */
  create(node: NodeId, from: ImageNode | undefined, bytes: number): void
  /** Bytes on the disk of all files, and of the copies that are being made. Only if counted. */
  used(): number
  /** The node is gone: ends or removes the copy that is made for it. */
  dropCopy(node: NodeId): void
  /** To be called before `close`: ends the copies that are being made, and the removing of left files. */
  stop(): Promise<void>
  /** Removes the file of a node that is gone. Does not block, since a large file takes a while. */
  remove(node: NodeId): Promise<void>
  /**
   * Resolves once the data of the node is on the disk.
   *
   * @throws `SyncFailure`, or `FileSystemError` if the file could not be opened
   */
  sync(node: NodeId): Promise<void>
  /**
   * Resolves once the names of new files and the sizes of truncated files are on the disk.
   *
   * @throws `SyncFailure`, or `FileSystemError` if the call can be tried again
   */
  syncShape(): Promise<void>
  /** Files that were made with data of the image, and that may not be on the disk yet: see unsynced-copies.ts. */
  unsyncedCopies(): readonly NodeId[]
  /** Removes the files of all other nodes, most of them later. @returns the nodes that have a file */
  keepOnly(nodes: ReadonlySet<NodeId>): Steps<Set<NodeId>>
  close(): void
}

/** The most files of a layer that are open. */
const maxOpen = 32
/**
 * If more bytes are to be copied, they are copied in the background. One call of a machine can
 * bring this many, too.
 */
const maxCopiedAtOnce = 2 ** 20
/** No file system of Linux has smaller blocks that matter. */
const block = 4096
/** So many names are read from the disk at a time. */
const namesAtOnce = 256
const fsyncAsync = promisify(fsync)
const unlinkAsync = promisify(unlink)

export function dataFolder(directory: string): string {
  return join(directory, 'data')
}

/** The name of the file with the data of a node. */
export function dataName(node: NodeId): string {
  return node.toString(16)
}

export interface DataFilesSettings {
  /** The directory of the layer. */
  directory: string
  image: LayerImage
  room: Room
  /** Whether `used` is needed: counting takes memory for each file. */
  isCounted: boolean
}

export function openDataFiles(settings: DataFilesSettings): DataFiles {
  const { directory, image, room, isCounted } = settings
  const folder = dataFolder(directory)
  makeDirectory(folder)
  const own = createOpenFiles(maxOpen)
  const copies = createCopies(folder, room)
  const names = openSync(folder, 'r')
  // A server that was killed may have left names that are not on the disk.
  let hasNewNames = true
  let leftFiles: LeftFiles | undefined
  const truncated = new Set<NodeId>()
  /** See `unsyncedCopies`. Each file that is made has another value. */
  const unsynced = new Map<NodeId, symbol>()
  /** Sizes that are set and not settled yet. */
  const sizes = new Map<NodeId, { before: number; now: number }>()

  const usage = isCounted ? countUsage() : undefined

  const fileOf = (node: NodeId) => join(folder, dataName(node))
  const descriptor = (node: NodeId) =>
    own.get(String(node), () => openRegularFile(fileOf(node), 'write'))

  const sync = shareSyncs((node: NodeId) => guarded(() => openRegularFile(fileOf(node))))

  /** A clone takes no time, whatever its size, so it is made at once. */
  function cloneOrCopy(node: NodeId, from: ImageNode, bytes: number): string {
    const clone = join(folder, `copy-of-${dataName(node)}`)
    rmSync(clone, { force: true })
    const isCloned =
      !copies.has(node) && withSource(from, (source) => cloneFile(source, clone, 'later'))
    return isCloned ? clone : copies.take(node, () => image.open(from), bytes)
  }

  function withSource<T>(node: ImageNode, action: (source: number) => T): T {
    const source = image.open(node)
    try {
      return action(source)
    } finally {
      closeSync(source)
    }
  }

  function settle(node: NodeId): void {
    const size = sizes.get(node)
    if (!size) return
    sizes.delete(node)
    if (size.now < size.before) guarded(() => truncate(node, size.now))
    truncated.add(node)
  }

  function truncate(node: NodeId, size: number): void {
    const file = descriptor(node)
    ftruncateSync(file, size)
    usage?.note(node, fstatSync(file))
  }

  return {
    sync,
    size(node) {
      const { size, blocks } = fstatSync(descriptor(node))
      return { size: sizes.get(node)?.now ?? size, used: blocks * 512 }
    },
    read(node, offset, into) {
      settle(node)
      return readFully(descriptor(node), offset, into)
    },
    readImage(node, offset, into) {
      return readFully(image.openForAll(node), offset, into)
    },
    write(node, offset, data) {
      settle(node)
      const file = descriptor(node)
      const { size } = fstatSync(file)
      try {
        for (let at = 0; at < data.length;) {
          at += writeSync(file, data, at, data.length - at, offset + at)
        }
      } catch (error) {
        // Some of the data may have been written. Keep the file from being longer than before.
        if (fstatSync(file).size > size) ftruncateSync(file, size)
        throw error
      } finally {
        usage?.note(node, fstatSync(file))
      }
    },
    overwrites(node, offset, length) {
      const file = descriptor(node)
      const { size, blocks } = fstatSync(file)
      const end = Math.min(size, sizes.get(node)?.now ?? size)
      if (offset + length > end) return false
      if (blocks * 512 >= size) return true
      const before = Buffer.allocUnsafe(length)
      readFully(file, offset, before)
      return !hasHole(before, offset)
    },
    setSize(node, size) {
      settle(node)
      const file = descriptor(node)
      // A kept reply may tell the machine that this was done, although the server ended before a sync.
      if (unsynced.delete(node)) for (const each of [file, names]) fsyncSync(each)
      const before = fstatSync(file).size
      if (size > before) truncate(node, size)
      sizes.set(node, { before, now: size })
    },
    cuts() {
      const smaller = [...sizes].filter(([, { before, now }]) => now < before)
      return smaller.map(([node, { now }]) => [node, now])
    },
    cut(node, size) {
      if (fstatSync(descriptor(node)).size <= size) return
      truncate(node, size)
      truncated.add(node)
    },
    settleSizes() {
      for (const node of [...sizes.keys()]) settle(node)
    },
    restoreSizes() {
      const restored = [...sizes]
      sizes.clear()
      for (const [node, { before, now }] of restored) {
        if (now > before) guarded(() => truncate(node, before))
      }
    },
    used: () => (usage?.all() ?? 0) + copies.used(),
    dropCopy: (node) => copies.drop(node),
    async stop() {
      await Promise.all([copies.close(), leftFiles?.stop()])
    },
    create(node, from, bytes) {
      const file = fileOf(node)
      const needed = Math.min(bytes, from?.size ?? 0)
      const isLarge = needed > maxCopiedAtOnce
      room.take(isLarge ? 0 : Math.ceil(needed / block) * block, 1)
      // A copy that is being made has taken its room already.
      if (isLarge && from && !copies.has(node)) room.takeShared(Math.min(needed, from.used))
      const copy = isLarge && from ? cloneOrCopy(node, from, needed) : undefined
      // An operation that was undone may have left a file, which is replaced.
      own.forget(String(node))
      truncated.delete(node)
      unsynced.delete(node)
      sizes.delete(node)
      rmSync(file, { force: true })
      leftFiles?.isTaken(basename(file))
      if (copy !== undefined) renameSync(copy, file)
      else if (from && needed > 0)
        withSource(from, (source) => copyFile(source, file, needed, 'later'))
      else closeSync(openSync(file, 'wx', 0o600))
      usage?.note(node, lstatSync(file))
      hasNewNames = true
      if (needed === 0) return
      truncated.add(node)
      unsynced.set(node, Symbol())
    },
    unsyncedCopies: () => [...unsynced.keys()],
    async remove(node) {
      own.forget(String(node))
      truncated.delete(node)
      unsynced.delete(node)
      try {
        await unlinkAsync(fileOf(node))
        usage?.forget(node)
      } catch {
        // Nothing refers to the file. It is removed when the layer is opened again.
      }
    },
    async syncShape() {
      const copies = [...unsynced]
      if (hasNewNames) {
        hasNewNames = false
        await synced(fsyncAsync(names))
      }
      for (const node of [...truncated]) {
        truncated.delete(node)
        try {
          await sync(node)
        } catch (error) {
          truncated.add(node)
          throw error
        }
      }
      for (const [node, copy] of copies) if (unsynced.get(node) === copy) unsynced.delete(node)
    },
    *keepOnly(nodes) {
      const kept = new Set<NodeId>()
      const left: string[] = []
      for (const name of yield* readNames(folder)) {
        yield
        if (isCopy(name)) rmSync(join(folder, name), { force: true })
        if (!/^[0-9a-f]+$/.test(name)) continue
        const node = Number.parseInt(name, 16)
        if (!nodes.has(node)) {
          left.push(name)
          continue
        }
        kept.add(node)
        usage?.note(node, lstatSync(join(folder, name)))
      }
      leftFiles = removeLeftFiles(folder, left, 'copy-left')
      return kept
    },
    close() {
      void leftFiles?.stop()
      own.close()
      closeSync(names)
    },
  }
}

function* readNames(folder: string): Steps<string[]> {
  using opened = opendirSync(folder, { bufferSize: namesAtOnce })
  const names: string[] = []
  for (let entry = opened.readSync(); entry; entry = opened.readSync()) {
    names.push(entry.name)
    yield
  }
  return names
}

function readFully(file: number, offset: number, into: Uint8Array): number {
  let at = 0
  while (at < into.length) {
    const count = readSync(file, into, at, into.length - at, offset + at)
    if (count === 0) break
    at += count
  }
  return at
}

/** @param offset of the bytes in their file @returns whether a block of them has only zeros */
function hasHole(bytes: Buffer, offset: number): boolean {
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + block - ((offset + at) % block))
    if (bytes.subarray(at, end).every((byte) => byte === 0)) return true
    at = end
  }
  return false
}
