/**
 * The index of an image's root tree. All layers over the image share it.
 *
 * The tree has parts. One part is all files outside the image's store paths: it is walked when the
 * index is made. Each store path is a part of its own, and is walked when one of its nodes is first
 * needed. An image never changes, so each walk of a part gives the nodes the same numbers. A part
 * that is walked again and is not the same is damaged.
 */
import { hash } from 'node:crypto'
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  type Dirent,
} from 'node:fs'
import { join } from 'node:path'

import { fileSystemError, NetimageError } from '../errors.ts'
import { manifestName } from '../image/layout.ts'
import { parseManifest } from '../image/manifest.ts'
import { formatHash } from '../nix/hash.ts'
import { baseNameOf, storeDir } from '../nix/store-path.ts'
import { liesBelow, openRegularFile, pathOfDescriptor } from '../open-safely.ts'
import {
  childAt,
  childOf,
  column,
  pathBelow,
  rowStart,
  structureOf,
  type Facts,
  type ImageTable,
} from './image-table.ts'
import { damaged, ifThere } from './image-damage.ts'
import { maxNodesOfPath } from './numbers.ts'
import { sharedPathCache, type PathCache } from './path-cache.ts'
import { createStoreTables } from './store-tables.ts'
import { isSameFile, walkTree } from './walk-tree.ts'

export interface ImageStorePath {
  /** `<hash part>-<name>` */
  name: string
  /** `sha256:…` */
  narHash: string
}

/** A part of the tree: a place in `storePaths`, or `outside`. */
export type Part = number
export const outside: Part = -1

export interface ImageIndex {
  /** A hash of the image's manifest. */
  identity: string
  /** In the order of the bytes of their names. */
  storePaths: readonly ImageStorePath[]
  /** The node of /nix/store in the part `outside`; undefined if the image has no store paths. */
  store: number | undefined
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
  /** The attributes of a store path itself. Does not walk a directory. @throws as `tableOf` */
  topOf(part: Part): Facts
  /** The name of the top of a part in errors. */
  shownTop(part: Part): string
  /** A hash that is the same as long as the nodes have the same numbers. @throws as `tableOf` */
  structureOf(part: Part): string
  /**
   * Opens the file for reading. The caller closes it.
   *
   * @throws `NetimageError` `image-damaged` if the file has been changed or replaced since the walk
   */
  open(part: Part, node: number): number
  /** @throws `NetimageError` `image-damaged`, as for `open` */
  readLink(part: Part, node: number): Buffer
  /**
   * Walks all files as the versions did whose layers had format 1: see migrate.ts. Each call walks.
   */
  walkWhole(): ImageTable
  close(): void
}

export interface IndexOptions {
  storePaths?: readonly ImageStorePath[]
  /** The root tree's name in errors, if `root` is another path to it. */
  shown?: string
  cache?: PathCache
  /** A store path with more nodes is refused. */
  maxNodes?: number
  /** Milliseconds since any time. Default: since this process began. */
  now?: () => number
}

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants

/**
 * @param image the directory of the image
 * @param root its root tree
 * @param shown the root tree's name in errors, if `root` is another path to it
 */
export function readImageIndex(image: string, root: string, shown = root): ImageIndex {
  try {
    const file = join(image, manifestName)
    const manifest = readFileSync(file)
    const { closure } = parseManifest(manifest.toString(), file)
    const storePaths = closure.map(({ path, narHash }) => ({
      name: baseNameOf(path),
      narHash: formatHash(narHash),
    }))
    return createIndex(hash('sha256', manifest), root, { storePaths, shown })
  } catch (error) {
    throw fileSystemError(`could not read the root tree ${shown}`, error)
  }
}

/** The identity of the index that `readImageIndex` would make. */
export function readIdentity(image: string): string {
  try {
    return hash('sha256', readFileSync(join(image, manifestName)))
  } catch (error) {
    throw fileSystemError(`could not read the manifest of ${image}`, error)
  }
}

export function createIndex(
  identity: string,
  root: string,
  options: IndexOptions = {},
): ImageIndex {
  const { shown = root, cache = sharedPathCache, maxNodes = maxNodesOfPath } = options
  const storePaths = (options.storePaths ?? []).toSorted((a, b) => (a.name < b.name ? -1 : 1))
  const places = new Map(storePaths.map(({ name }, place) => [name, place]))
  using unfinished = new DisposableStack()
  const hold = (path: string, flags: number) =>
    unfinished.adopt(openSync(path, flags), (file) => closeSync(file))

  // Held open: if another tree gets the name, only the files of this tree are still found.
  const top = hold(root, O_RDONLY)
  // The dot makes lstat(2) look at the directory, not at the descriptor's link.
  const held = `${pathOfDescriptor(top) ?? root}/.`
  const owner = lstatSync(held, { bigint: true })
  const isDirectory = new Map<number, boolean>()
  const files = walkOutside()
  const store = storePaths.length === 0 ? undefined : findStore()
  // The held tree and the store in it may be renamed, and links may get their names.
  const heldStore = store === undefined ? '' : holdStore(store)
  const namesInStore = store === undefined ? new Int32Array() : sortNamesInStore(store)
  const structureOutside = structureOf(files)

  function walkOutside(): ImageTable {
    const directory = Buffer.from(held + storeDir)
    const leavesOut = (at: Buffer, entry: Dirent<Buffer>) => {
      const place = at.equals(directory) ? places.get(entry.name.toString('latin1')) : undefined
      if (place !== undefined) isDirectory.set(place, entry.isDirectory())
      return place !== undefined
    }
    return walkTree(Buffer.from(held), { owner, mergesLinks: true, leavesOut })
  }

  function findStore(): number {
    const missing = storePaths.find((_, place) => !isDirectory.has(place))
    if (missing) {
      const file = `${shown}${storeDir}/${missing.name}`
      throw new NetimageError('image-damaged', `${file} of the image is missing`, {
        details: { file },
        hint: 'Build the image again.',
      })
    }
    let node: number | undefined = 1
    for (const name of storeDir.split('/').filter(Boolean)) {
      node = node && childOf(files, node, Buffer.from(name))
    }
    const found = node ?? 1
    const links = rowStart(found) + column.links
    const directories = [...isDirectory.values()].filter(Boolean).length
    files.rows[links] = (files.rows[links] ?? 0) + directories
    return found
  }

  function holdStore(node: number): string {
    const directory = hold(join(held, storeDir), O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    const { ino } = fstatSync(directory, { bigint: true })
    const isWalked = files.rows[rowStart(node) + column.inode] === Number(ino)
    if (!isWalked || !liesBelow(directory, top)) {
      throw damaged(`${shown}${storeDir}`, 'it is another directory')
    }
    return pathOfDescriptor(directory) ?? join(root, storeDir)
  }

  function sortNamesInStore(node: number): Int32Array {
    const names: { name: Buffer; at: number }[] = storePaths.map(({ name }, at) => ({
      name: Buffer.from(name),
      at,
    }))
    for (let place = 0; ; place++) {
      const child = childAt(files, node, place)
      if (!child) break
      names.push({ name: child.name, at: -1 - place })
    }
    const sorted = names.sort((a, b) => a.name.compare(b.name))
    return Int32Array.from(sorted, ({ at }) => at)
  }

  const nameOfPart = (part: Part) => storePaths[part]?.name ?? ''
  const topPath = (part: Part) =>
    Buffer.from(part === outside ? held : `${heldStore}/${nameOfPart(part)}`)
  const shownTop = (part: Part) =>
    part === outside ? shown : `${shown}${storeDir}/${nameOfPart(part)}`

  const stores = createStoreTables({
    ...{ owner, cache, maxNodes, placeOnDisk: topPath, shown: shownTop },
    isDirectory: (path) => isDirectory.get(path) ?? false,
    now: options.now ?? (() => performance.now()),
  })
  const tableOf = (part: Part) => (part === outside ? files : stores.tableOf(part))

  function fileOf(part: Part, node: number) {
    const table = tableOf(part)
    const below = () => pathBelow(table, node)
    return {
      table,
      path: () => Buffer.concat([topPath(part), below()]),
      shown: () => `${shownTop(part)}${below().toString()}`,
    }
  }

  const opened = unfinished.move()
  return {
    identity,
    storePaths,
    store,
    namesInStore,
    tableOf,
    topOf: (part) => stores.topOf(part),
    shownTop,
    structureOf: (part) => (part === outside ? structureOutside : stores.structureOf(part)),
    open(part, node) {
      const { table, path, shown: shownFile } = fileOf(part, node)
      const file = ifThere(shownFile, () => openRegularFile(path()))
      const isWalked = isSameFile(table.rows, node, fstatSync(file, { bigint: true }))
      if (isWalked && liesBelow(file, top)) return file
      closeSync(file)
      throw damaged(shownFile(), 'it is another file')
    },
    readLink(part, node) {
      const { table, path, shown: shownFile } = fileOf(part, node)
      const target = ifThere(shownFile, () =>
        isSameFile(table.rows, node, lstatSync(path(), { bigint: true }))
          ? readlinkSync(path(), { encoding: 'buffer' })
          : undefined,
      )
      if (target) return target
      throw damaged(shownFile(), 'it is another link')
    },
    walkWhole: () => walkTree(Buffer.from(held), { owner, mergesLinks: true }),
    close() {
      stores.close()
      opened.dispose()
    },
  }
}
