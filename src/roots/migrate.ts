/**
 * Brings layers of format 1 to the present format.
 *
 * In format 1 the nodes of an image had the numbers of one walk over the whole root tree, and all
 * names of a hard link were one node. Now store paths are walked one by one, and each name in them
 * is a node of its own: see numbers.ts. So all numbers of image nodes are translated, and if a
 * machine changed a file with several names, these names get entries that lead to one node.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'

import type { NodeId } from '../protocols/nfs/file-system.ts'
import { removeTree } from '../remove-tree.ts'
import { syncDirectory, syncDirectorySoon } from '../sync-directory.ts'
import { syncFile, syncFileSoon } from '../sync-file.ts'
import { linkOrCopy } from './copy-file.ts'
import { dataFolder, dataName } from './data-files.ts'
import { databaseFile, openLayerDatabase, type LayerDatabase } from './database.ts'
import { toNodeRow } from './layer-rows.ts'
import { openOlderFile } from './database-file.ts'
import type { ImageIndex } from './image-index.ts'
import { inShortTransactions } from './in-transaction.ts'
import { mustHaveNoLog } from './log-file.ts'
import {
  column,
  countNodes,
  nameOf,
  noEntry,
  rowStart,
  structureInSteps,
  type ImageTable,
} from './image-table.ts'
import { changedImage, layOver, recordStructures } from './lay-over.ts'
import type { LayerImage } from './layer-image.ts'
import { overriddenNodes } from './layer-changes.ts'
import { namesIn } from './names-in.ts'
import { firstOwn, rootNode } from './numbers.ts'
import { waitFor, type Steps } from './steps.ts'

/**
 * Makes contents of the present format beside contents of format 1. Files with data are hard links
 * or, if the file system has none, copies. Everything is on the disk afterwards. On failure, and if it
 * is ended before, there are no new contents.
 *
 * @param from contents of format 1, unchanged afterwards
 * @param to a directory that does not exist yet
 * @throws `NetimageError` `bad-state` if the image has changed
 */
export function* migrateContents(from: string, to: string, index: ImageIndex): Steps {
  let isMade = false
  try {
    mkdirSync(dataFolder(to), { recursive: true })
    const withData = yield* translateDatabase(from, to, index)
    const files = new Set(namesIn(dataFolder(from)))
    for (const [before, now] of withData) {
      yield
      // After a loss of power, a file may be missing: see `matchData` in layer.ts.
      if (!files.has(dataName(before))) continue
      linkOrCopy(join(dataFolder(from), dataName(before)), join(dataFolder(to), dataName(now)))
    }
    for (const directory of [dataFolder(to), to]) {
      yield* waitFor(
        () => syncDirectory(directory),
        () => syncDirectorySoon(directory),
      )
    }
    isMade = true
  } finally {
    if (!isMade) removeTree(to)
  }
}

/** @returns the numbers of nodes with data of their own, before and now */
function* translateDatabase(
  from: string,
  to: string,
  index: ImageIndex,
): Steps<Map<NodeId, NodeId>> {
  using stack = new DisposableStack()
  const before = stack.adopt(openOlderFile(databaseFile(from)), (opened) => opened.close())
  const structure = readMeta(before, 'structure')
  const whole = yield* index.walkWhole()
  if (structure !== undefined && structure !== (yield* structureInSteps(whole)))
    throw changedImage(from)
  const now = stack.adopt(openLayerDatabase(to), (opened) => opened.close())
  function* translate(): Steps<Map<NodeId, NodeId>> {
    const image = yield* layOver(index, now, from)
    return yield* translateRows(before, now, { from, image, whole })
  }
  const withData = yield* inShortTransactions(now, translate())
  stack.dispose()
  const file = databaseFile(to)
  mustHaveNoLog(file)
  yield* waitFor(
    () => syncFile(file),
    () => syncFileSoon(file),
  )
  return withData
}

function* translateRows(
  before: DatabaseSync,
  now: LayerDatabase,
  { from, image, whole }: { from: string; image: LayerImage; whole: ImageTable },
): Steps<Map<NodeId, NodeId>> {
  const translate = createTranslation(whole, image, from)
  const withData = new Map<NodeId, NodeId>()
  const written = new Map<NodeId, NodeId>()
  for (const value of before.prepare('SELECT * FROM nodes').iterate()) {
    const row = toNodeRow(value, databaseFile(from))
    const id = translate(row.id)
    now.writeNode({ ...row, id, parent: row.parent === 0 ? 0 : translate(row.parent) })
    written.set(row.id, id)
    if (row.ownData) withData.set(row.id, id)
    yield
  }
  for (const value of before.prepare('SELECT * FROM entries').iterate()) {
    const { directory, name, node, cookie } = value
    now.writeEntry(translate(Number(directory)), {
      name: name instanceof Uint8Array ? Buffer.from(name) : Buffer.alloc(0),
      node: node === null ? undefined : translate(Number(node)),
      cookie: Number(cookie),
    })
    yield
  }
  for (const { directory, name, node } of yield* furtherNames(whole)) {
    yield
    const id = written.get(node)
    if (id !== undefined) leadTo(id, translate(directory), name, image, now)
  }
  recordStructures([...(yield* overriddenNodes(now))], image, now)
  for (const name of ['nextNode', 'nextCookie']) {
    const value = readMeta(before, name)
    if (value !== undefined) now.writeMeta(name, value)
  }
  return withData
}

/**
 * A further name of a node that has a row. The node that the name has now is gone. Unless the
 * machine has given the name to another node or removed it, the name leads to the row's node.
 */
function leadTo(
  id: NodeId,
  directory: NodeId,
  name: Buffer,
  image: LayerImage,
  now: LayerDatabase,
): void {
  const inImage = image.child(directory, name)
  const node = inImage === undefined || inImage === id ? undefined : image.node(inImage)
  if (!node) return
  const { modified } = node
  const time = { accessed: modified, modified, changed: modified }
  now.writeNode({ ...node, ...time, links: 0, target: undefined, ownData: false })
  // A directory that is gone has no names.
  if (now.readNode(directory)?.links === 0 || now.readEntry(directory, name)) return
  now.writeEntry(directory, { name, node: id, cookie: 0 })
}

/**
 * @param table of `ImageIndex.walkWhole`
 * @returns the present number for a number of format 1
 */
function createTranslation(
  table: ImageTable,
  image: LayerImage,
  from: string,
): (id: NodeId) => NodeId {
  const known = new Map<NodeId, NodeId>([[rootNode, rootNode]])

  function translate(id: NodeId): NodeId {
    if (id >= firstOwn) return id
    const found = known.get(id) ?? find(id)
    if (found === undefined) throw changedImage(from)
    known.set(id, found)
    return found
  }

  function find(id: NodeId): NodeId | undefined {
    if (!(id >= 1 && id <= countNodes(table))) return undefined
    const row = rowStart(id)
    const name = Buffer.from(nameOf(table, table.rows[row + column.entry] ?? noEntry))
    return image.child(translate(table.rows[row + column.parent] ?? rootNode), name)
  }

  return translate
}

/**
 * All names of the image's nodes except the first name of each node, in numbers of format 1.
 *
 * @param table of `ImageIndex.walkWhole`
 */
function* furtherNames(
  table: ImageTable,
): Steps<{ directory: NodeId; name: Buffer; node: NodeId }[]> {
  const { rows, entries } = table
  const found: { directory: NodeId; name: Buffer; node: NodeId }[] = []
  for (let directory = 1; directory <= countNodes(table); directory++) {
    yield
    const first = rows[rowStart(directory) + column.firstChild] ?? 0
    const count = rows[rowStart(directory) + column.childCount] ?? 0
    for (let entry = first; entry < first + count; entry++) {
      yield
      const node = entries.node[entry] ?? 0
      if (rows[rowStart(node) + column.entry] === entry) continue
      found.push({ directory, name: Buffer.from(nameOf(table, entry)), node })
    }
  }
  return found
}

function readMeta(database: DatabaseSync, name: string): string | number | undefined {
  const value = database.prepare('SELECT value FROM meta WHERE name = ?').get(name)?.['value']
  return typeof value === 'string' || typeof value === 'number' ? value : undefined
}
