/**
 * The index of the images below a layer: the files of one image outside its store paths, and store
 * paths, of this image and of further images.
 *
 * The index has parts. One part is all files outside the store paths: it is walked when the index is
 * made. Each store path is a part of its own, and is walked when one of its nodes is first needed. An
 * image never changes, so each walk of a part gives the nodes the same numbers. A part that is walked
 * again and is not the same is damaged.
 *
 * Indexes share what they have in common: the files outside, the tables of store paths, and the whole
 * index if all images are the same.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync } from 'node:fs'
import { basename, dirname } from 'node:path'

import { NetimageError } from '../errors.ts'
import { storeDir } from '../nix/store-path.ts'
import { liesBelow, openRegularFile } from '../open-safely.ts'
import { damaged, ifThere } from './image-damage.ts'
import { childOf, pathBelow, type Facts, type ImageTable } from './image-table.ts'
import { maxNodesOfPath } from './numbers.ts'
import { createOpenFiles } from './open-files.ts'
import type { OutsideFiles } from './outside-files.ts'
import { sharedPathCache, type PathCache } from './path-cache.ts'
import type { ImageStorePath, RootImage } from './root-image.ts'
import { createShared } from './shared.ts'
import type { Steps } from './steps.ts'
import { createSharedOutsideFiles, keyOf, type SharedOutsideFiles } from './shared-outside-files.ts'
import { openStoreFolder, type StoreFolder } from './store-folder.ts'
import { sortNamesInStore, uniteStorePaths } from './store-set.ts'
import { isSameFile } from './walk-tree.ts'

/** A part of the index: a place in `storePaths`, or `outside`. */
export type Part = number
export const outside: Part = -1

export interface ImageIndex {
  /** The id of the image whose files outside the store paths are in the index. */
  id: string
  /** In the order of the bytes of their names. */
  storePaths: readonly ImageStorePath[]
  /** See `RootImage`. */
  digests: ReadonlyMap<string, string> | undefined
  /** The node of /nix/store in the part `outside`; undefined if there are no store paths. */
  store: number | undefined
  /** How many store paths are directories: they add to the links of /nix/store. */
  storeDirectories: number
  /**
   * The names in /nix/store in the order of their bytes: a store path as its place in `storePaths`,
   * any other name as -1 minus its place among those names.
   */
  namesInStore: Int32Array
  /**
   * The nodes of a part. The caller asks again for each use, because the memory is limited.
   *
   * @throws `NetimageError` `image-damaged`, `too-many-files`, or a system error
   */
  tableOf(part: Part): ImageTable
  /** As `tableOf`, but does not take long: see `StoreTables.tableSoon`. */
  tableSoon(part: Part): ImageTable | Promise<void>
  /** As `tableOf`: see `StoreTables.tableInSteps`. */
  tableInSteps(part: Part): Steps<ImageTable>
  /** The attributes of a store path itself. Does not walk a directory. @throws as `tableOf` */
  topOf(part: Part): Facts
  /** As `topOf`, but does not take long: see `StoreTables.tableSoon`. */
  topSoon(part: Part): Facts | Promise<void>
  /** The name of the top of a part in errors. */
  shownTop(part: Part): string
  /** A hash that is the same as long as the nodes have the same numbers. @throws as `tableOf` */
  structureOf(part: Part): string
  /** As `structureOf`, but does not take long: see `StoreTables.tableSoon`. */
  structureSoon(part: Part): string | Promise<void>
  /** As `structureOf`: see `StoreTables.tableInSteps`. */
  structureInSteps(part: Part): Steps<string>
  /**
   * Opens the file for reading. The caller closes it.
   *
   * @throws `NetimageError` `image-damaged` if the file has been changed or replaced since the walk
   */
  open(part: Part, node: number): number
  /**
   * As `open`, but the file stays open for some seconds, for all machines. The caller uses it at once, and does
   * not close it.
   */
  openForAll(part: Part, node: number): number
  /** @throws `NetimageError` `image-damaged`, as for `open` */
  readLink(part: Part, node: number): Buffer
  /**
   * Walks all files as the versions did whose layers had format 1: see migrate.ts. Each call walks.
   */
  walkWhole(): Steps<ImageTable>
  close(): void
}

export interface IndexSettings {
  cache?: PathCache
  /** A store path with more nodes is refused. */
  maxNodes?: number
  /** Milliseconds since any time. Default: since this process began. */
  now?: () => number
  /**
   * Called if a store path is missing that only kept images have: it is left out of the index. Default:
   * the images are refused.
   */
  onMissing?: ((error: NetimageError) => void) | undefined
}

/** Makes indexes that share what they have in common. */
export interface ImageIndexes {
  /**
   * The caller closes the index.
   *
   * @param bound the image whose files outside the store paths are in the index. Its store paths come
   *   before those of other images with the same names
   * @param kept further images whose store paths are in the index
   * @throws `NetimageError` `image-damaged`, or a system error
   */
  open(bound: RootImage, kept?: readonly RootImage[]): ImageIndex
  /** As `open`. */
  openInSteps(bound: RootImage, kept?: readonly RootImage[]): Steps<ImageIndex>
  /** See `SharedOutsideFiles`: `open` then does not take long. */
  prepare: SharedOutsideFiles['prepare']
}

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants
/** The most files of all images that stay open. Machines with the same image read the same files in a boot. */
const maxOpenForAll = 512
/** Then they are opened again, which finds files that have changed. Milliseconds. */
const openForAllMs = 10_000

export function createImageIndexes(settings: IndexSettings = {}): ImageIndexes {
  const { cache = sharedPathCache, maxNodes = maxNodesOfPath, onMissing } = settings
  const now = settings.now ?? (() => performance.now())
  const outsides = createSharedOutsideFiles()
  const folders = createShared<StoreFolder>((folder) => folder.close())
  const indexes = createShared<ImageIndex>((index) => index.close())
  const openFiles = createOpenFiles(maxOpenForAll)
  let allOpenedSince = now()
  let lastIndex = 0

  function open(bound: RootImage, kept: readonly RootImage[]): ImageIndex {
    using unfinished = new DisposableStack()
    const files = outsides.take(bound)
    unfinished.defer(() => outsides.release(bound))
    const openFolder = (path: string) => {
      const { folder, key } = takeFolder(bound, path, files)
      unfinished.defer(() => folders.release(key))
      return folder
    }
    const places: Place[] = []
    unfinished.defer(() => {
      for (const { folder, name } of places) folder.release(name)
    })
    const use = (place: Place) => {
      place.folder.use(place.name)
      places.push(place)
    }
    const index = uniteParts([bound, ...kept], files, openFolder, { use, onMissing })
    const keys = `${++lastIndex} `
    unfinished.defer(() => openFiles.forgetAll(keys))
    const opened = unfinished.move()
    return {
      ...index,
      openForAll(part, node) {
        if (now() - allOpenedSince >= openForAllMs) {
          openFiles.close()
          allOpenedSince = now()
        }
        return openFiles.get(`${keys}${part} ${node}`, () => index.open(part, node))
      },
      close: () => opened.dispose(),
    }
  }

  function takeFolder(image: RootImage, path: string, files: OutsideFiles) {
    const isInTree = path === storeIn(image)
    const directory = isInTree
      ? files.holdStore()
      : openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    const { dev, ino } = fstatSync(directory, { bigint: true })
    const { owner } = files
    const key = [dev, ino, owner.uid, owner.gid].join()
    let isNew = false
    const folder = folders.take(key, () => {
      isNew = true
      return openStoreFolder({
        ...{ directory, path, owner, cache, maxNodes, now },
        listed: isInTree ? files.inTree : new Map(),
        shown: (name) => `${path}/${name}`,
      })
    })
    // The shared folder holds the directory already.
    if (!isNew) closeSync(directory)
    return { folder, key }
  }

  function openShared(bound: RootImage, kept: readonly RootImage[] = []): ImageIndex {
    const others = kept.filter(({ id }) => id !== bound.id)
    const key = [bound, ...others.toSorted((a, b) => (a.id < b.id ? -1 : 1))].map(keyOf).join('\0')
    const index = indexes.take(key, () => open(bound, others))
    let isClosed = false
    return {
      ...index,
      close() {
        if (!isClosed) indexes.release(key)
        isClosed = true
      },
    }
  }

  return {
    prepare: (bound) => outsides.prepare(bound),
    open: openShared,
    *openInSteps(bound, kept) {
      yield* outsides.takeInSteps(bound)
      try {
        return openShared(bound, kept)
      } finally {
        outsides.release(bound)
      }
    },
  }
}

function storeIn({ outside: directory }: RootImage): string {
  return `${directory}${storeDir}`
}

/** A store path on the disk. */
interface Place {
  folder: StoreFolder
  name: string
  isDirectory: boolean
}

interface UniteSettings extends Pick<IndexSettings, 'onMissing'> {
  /** Called for each store path of the index. */
  use: (place: Place) => void
}

/** @param images the first is the bound image */
function uniteParts(
  images: readonly [RootImage, ...RootImage[]],
  outsideFiles: OutsideFiles,
  openFolder: (path: string) => StoreFolder,
  { use, onMissing }: UniteSettings,
): Omit<ImageIndex, 'openForAll' | 'close'> {
  const [bound] = images
  const { files, top, held, structure } = outsideFiles
  const hasOutside = (name: string) =>
    outsideFiles.store !== undefined &&
    childOf(files, outsideFiles.store, Buffer.from(name)) !== undefined
  const all = uniteStorePaths(images, hasOutside)
  const store = all.length === 0 ? undefined : outsideFiles.store
  const needed = new Set(bound.storePaths.map(({ name }) => name))
  const folders = new Map<string, StoreFolder>()
  const found = all.flatMap((storePath) => {
    const { name, at } = storePath
    const [path, base] = [dirname(at), basename(at)]
    let folder = folders.get(path)
    if (!folder && store !== undefined) folders.set(path, (folder = openFolder(path)))
    const isDirectory = folder?.isDirectory(base)
    if (folder && isDirectory !== undefined) {
      const place = { folder, name: base, isDirectory }
      use(place)
      return [{ storePath, place }]
    }
    const missing = new NetimageError('image-damaged', `${at} of the image is missing`, {
      details: { file: at },
      hint: 'Build the image again, and add it with: netimage site add.',
    })
    if (!onMissing || needed.has(name)) throw missing
    onMissing(missing)
    return []
  })
  const storePaths = found.map(({ storePath }) => storePath)
  const places = found.map(({ place }) => place)

  const placeOf = (part: Part): Place => {
    const place = places[part]
    if (place) return place
    throw new RangeError(`the index has no store path ${part}`)
  }
  const tableOf = (part: Part) => {
    if (part === outside) return files
    const { folder, name } = placeOf(part)
    return folder.tableOf(name)
  }
  const tableSoon = (part: Part) => {
    if (part === outside) return files
    const { folder, name } = placeOf(part)
    return folder.tableSoon(name)
  }
  const topPath = (part: Part) => {
    if (part === outside) return Buffer.from(held)
    const { folder, name } = placeOf(part)
    return folder.pathOf(name)
  }
  const shownTop = (part: Part) => {
    if (part === outside) return bound.outside
    const { folder, name } = placeOf(part)
    return folder.shown(name)
  }

  function fileOf(part: Part, node: number) {
    const table = tableOf(part)
    const below = () => pathBelow(table, node)
    return {
      table,
      path: () => Buffer.concat([topPath(part), below()]),
      shown: () => `${shownTop(part)}${below().toString()}`,
    }
  }

  return {
    id: bound.id,
    digests: bound.digests,
    storePaths,
    store,
    storeDirectories: places.filter(({ isDirectory }) => isDirectory).length,
    namesInStore:
      store === undefined ? new Int32Array() : sortNamesInStore(storePaths, files, store),
    tableOf,
    tableSoon,
    *tableInSteps(part) {
      if (part === outside) return files
      const { folder, name } = placeOf(part)
      return yield* folder.tableInSteps(name)
    },
    topOf(part) {
      const { folder, name } = placeOf(part)
      return folder.topOf(name)
    },
    topSoon(part) {
      const { folder, name } = placeOf(part)
      return folder.topSoon(name)
    },
    shownTop,
    structureOf(part) {
      if (part === outside) return structure
      const { folder, name } = placeOf(part)
      return folder.structureOf(name)
    },
    structureSoon(part) {
      if (part === outside) return structure
      const { folder, name } = placeOf(part)
      return folder.structureSoon(name)
    },
    *structureInSteps(part) {
      if (part === outside) return structure
      const { folder, name } = placeOf(part)
      return yield* folder.structureInSteps(name)
    },
    open(part, node) {
      const { table, path, shown: shownFile } = fileOf(part, node)
      const file = ifThere(shownFile, () => openRegularFile(path()))
      const isWalked = isSameFile(table.rows, node, fstatSync(file, { bigint: true }))
      const above = part === outside ? top : placeOf(part).folder.directory
      if (isWalked && liesBelow(file, above)) return file
      closeSync(file)
      throw damaged(shownFile(), 'it is another file')
    },
    readLink(part, node) {
      const { table, path, shown: shownFile } = fileOf(part, node)
      const link = path()
      const target = ifThere(shownFile, () =>
        isSameFile(table.rows, node, lstatSync(link, { bigint: true }))
          ? readlinkSync(link, { encoding: 'buffer' })
          : undefined,
      )
      if (target) return target
      throw damaged(shownFile(), 'it is another link')
    },
    walkWhole: () => outsideFiles.walkWhole(),
  }
}
