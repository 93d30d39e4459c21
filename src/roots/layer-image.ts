/**
 * The image below a layer, as one tree. The nodes have the numbers that the layer gave: see
 * numbers.ts. The layer keeps only the numbers; everything else is in the index of the image, which
 * all layers share.
 */
import { FileSystemError, type NodeId } from '../protocols/nfs/file-system.ts'
import { outside, type ImageIndex, type Part } from './image-index.ts'
import {
  childAt,
  childOf,
  column,
  countNodes,
  factsOf,
  rowStart,
  type Facts,
  type ImageTable,
} from './image-table.ts'
import { placeOfNumber, type OrderedNumbers } from './number-order.ts'
import { isOfStore, isOwn, pathAndPlace, rootNode, storeNode } from './numbers.ts'
import type { Steps } from './steps.ts'

export interface ImageNode extends Facts {
  id: NodeId
  /** The directory that has the node; if the node has several names, that of the first. */
  parent: NodeId
}

export interface ImageChild {
  name: Buffer
  node: NodeId
}

/**
 * Each method also throws what `ImageIndex.tableOf` throws. If a machine uses the image, also `EAGAIN` with a
 * promise while the table of a large store path is being made.
 */
export interface LayerImage {
  /** The number of /nix/store; undefined if the image has no store paths. */
  store: NodeId | undefined
  /** @returns undefined if the image has no such node */
  node(id: NodeId): ImageNode | undefined
  /** Looks at what `node`, `open` and `readLink` need of the node, so that they do not take long until the next step. */
  prepare(id: NodeId): Steps
  /** As `prepare`, for the names in a directory. */
  prepareNames(directory: NodeId): Steps
  /**
   * Names are in the order of their bytes.
   *
   * @returns undefined if the directory has fewer names
   */
  childAt(directory: NodeId, place: number): ImageChild | undefined
  child(directory: NodeId, name: Buffer): NodeId | undefined
  /**
   * Opens the file for reading. The caller closes it.
   *
   * @throws `NetimageError` `image-damaged` if the file has been changed or replaced since the walk
   */
  open(node: ImageNode): number
  /** As `open`, for use at once: see `ImageIndex.openForAll`. */
  openForAll(node: ImageNode): number
  /** @throws `NetimageError` `image-damaged`, as for `open` */
  readLink(node: ImageNode): Buffer
  /** @param path the number of a store path @returns undefined if the image does not have the path */
  structureOfPath(path: number): string | undefined
  /** As `structureOfPath`. */
  structureInSteps(path: number): Steps<string | undefined>
  /**
   * @param path as for `structureOfPath`
   * @throws `NetimageError` `image-damaged` if the path has changed since the machine first used it
   */
  checkPath(path: number): void
  /** The numbers of all nodes. Walks all store paths, unless only those outside are wanted. */
  nodes(onlyOutside?: boolean): Generator<NodeId>
}

/** The numbers that a layer gave to what an image has. */
export interface Numbering {
  /** By node in the part `outside`, from 1 on, and 0 for node 0, which does not exist. */
  files: OrderedNumbers<Float64Array>
  /** By place in `storePaths` of the index. */
  paths: OrderedNumbers<Uint32Array>
}

/** Where a node is: in a part of the image, as a node of the part's table. */
interface PartNode {
  part: Part
  node: number
}

/** Called before a node inside a store path is given out: see path-structures.ts. May throw. */
export type UsesPath = (part: Part, path: number) => void

/**
 * @param usesPath of the machine that uses the image. Default: nothing is checked, and all tables are made
 *   while everybody waits
 */
export function createLayerImage(
  index: ImageIndex,
  { files, paths }: Numbering,
  usesPath?: UsesPath,
): LayerImage {
  const store = index.store === undefined ? undefined : numberOf(outside, index.store)

  function numberOf(part: Part, node: number): NodeId {
    return part === outside
      ? (files.numbers[node] ?? 0)
      : storeNode(paths.numbers[part] ?? 0, node - 1)
  }

  /** @returns undefined if the number is of no part of this image */
  function find(id: NodeId): PartNode | undefined {
    if (isOwn(id)) return undefined
    if (!isOfStore(id)) {
      const node = placeOfNumber(files, id)
      return node === undefined || node === 0 ? undefined : { part: outside, node }
    }
    const { path, place } = pathAndPlace(id)
    const part = placeOfNumber(paths, path)
    return part === undefined ? undefined : { part, node: place + 1 }
  }

  /** Each property by name: a spread takes longer than all the rest of a look at a node. */
  function described(id: NodeId, facts: Facts | undefined, parent: NodeId): ImageNode | undefined {
    if (!facts) return undefined
    const { kind, mode, uid, gid, links, size, used, device, modified } = facts
    return { id, kind, mode, uid, gid, links, size, used, device, modified, parent }
  }

  function tableAt({ part }: PartNode): ImageTable {
    if (part === outside || !usesPath) return index.tableOf(part)
    const table = index.tableSoon(part)
    if (table instanceof Promise) throw beingMade(index.shownTop(part), table)
    usesPath(part, paths.numbers[part] ?? 0)
    return table
  }

  function topAt(part: Part): Facts {
    if (!usesPath) return index.topOf(part)
    const top = index.topSoon(part)
    if (top instanceof Promise) throw beingMade(index.shownTop(part), top)
    return top
  }

  function isStore({ part, node }: PartNode): boolean {
    return part === outside && node === index.store
  }

  /** A node that has a place in the image. */
  function needPartNode({ id }: ImageNode): PartNode {
    const place = find(id)
    if (place) return place
    throw new RangeError(`node ${id} is not of the image`)
  }

  return {
    store,
    node(id) {
      const place = find(id)
      if (!place) return undefined
      const { part, node } = place
      if (part !== outside && node === 1) return described(id, topAt(part), store ?? rootNode)
      const { rows } = tableAt(place)
      const parent = rows[rowStart(node) + column.parent] ?? 1
      const facts = factsOf(rows, node)
      // The table of the files outside has no store paths.
      if (facts && isStore(place)) facts.links += index.storeDirectories
      return described(id, facts, numberOf(part, parent))
    },
    childAt(directory, at) {
      const place = find(directory)
      if (!place) return undefined
      if (!isStore(place)) return childNumbered(place.part, childAt(tableAt(place), place.node, at))
      const position = index.namesInStore[at]
      if (position === undefined) return undefined
      if (position < 0)
        return childNumbered(outside, childAt(tableAt(place), place.node, -position - 1))
      const name = Buffer.from(index.storePaths[position]?.name ?? '')
      return { name, node: numberOf(position, 1) }
    },
    child(directory, name) {
      const place = find(directory)
      if (!place) return undefined
      const part = isStore(place) ? findStorePath(index, name) : undefined
      if (part !== undefined) return numberOf(part, 1)
      const child = childOf(tableAt(place), place.node, name)
      return child === undefined ? undefined : numberOf(place.part, child)
    },
    *prepare(id) {
      const place = find(id)
      if (!place || place.part === outside) return
      const isKnown = place.node === 1 && !(index.topSoon(place.part) instanceof Promise)
      if (!isKnown) yield* index.tableInSteps(place.part)
    },
    *prepareNames(directory) {
      const place = find(directory)
      if (place) yield* index.tableInSteps(place.part)
    },
    open(node) {
      const place = needPartNode(node)
      tableAt(place)
      return index.open(place.part, place.node)
    },
    openForAll(node) {
      const place = needPartNode(node)
      tableAt(place)
      return index.openForAll(place.part, place.node)
    },
    readLink(node) {
      const place = needPartNode(node)
      tableAt(place)
      return index.readLink(place.part, place.node)
    },
    structureOfPath(path) {
      const part = placeOfNumber(paths, path)
      return part === undefined ? undefined : index.structureOf(part)
    },
    *structureInSteps(path) {
      const part = placeOfNumber(paths, path)
      return part === undefined ? undefined : yield* index.structureInSteps(part)
    },
    checkPath(path) {
      const part = placeOfNumber(paths, path)
      if (part === undefined || !usesPath) return
      const structure = index.structureSoon(part)
      if (structure instanceof Promise) throw beingMade(index.shownTop(part), structure)
      usesPath(part, path)
    },
    *nodes(onlyOutside = false) {
      for (const part of [outside, ...(onlyOutside ? [] : index.storePaths.keys())]) {
        const count = countNodes(index.tableOf(part))
        for (let node = 1; node <= count; node++) yield numberOf(part, node)
      }
    },
  }

  function childNumbered(
    part: Part,
    child: { name: Buffer; node: number } | undefined,
  ): ImageChild | undefined {
    return child && { name: child.name, node: numberOf(part, child.node) }
  }
}

function beingMade(path: string, until: Promise<void>): FileSystemError {
  return new FileSystemError('EAGAIN', `the files of ${path} are being looked at`, { until })
}

export function findStorePath({ storePaths }: ImageIndex, name: Buffer): Part | undefined {
  const wanted = name.toString('latin1')
  let from = 0
  for (let to = storePaths.length; from < to;) {
    const middle = (from + to) >>> 1
    const found = storePaths[middle]?.name ?? ''
    if (found === wanted) return middle
    if (found < wanted) from = middle + 1
    else to = middle
  }
  return undefined
}
