/** Gives numbers to the files and store paths of an image that a layer has not met before. */
import type { LayerDatabase } from './database.ts'
import { outside, type ImageIndex } from './image-index.ts'
import { countNodes, pathBelow, pathsInSteps } from './image-table.ts'
import { inTransaction } from './in-transaction.ts'
import type { Numbering } from './layer-image.ts'
import { orderInSteps } from './number-order.ts'
import { rootNode } from './numbers.ts'
import type { Steps } from './steps.ts'

const numbersOfStep = 16

/**
 * The numbers are on the disk when this returns: after a loss of power, no number is given to
 * something else. In a transaction of the caller, they are when the caller has synced it. If the steps are
 * ended before, no numbers were given.
 *
 * @throws an error of the database or the system
 */
export function* giveNumbersInSteps(index: ImageIndex, database: LayerDatabase): Steps<Numbering> {
  const files = yield* readFileNumbers(index, database)
  const paths = readPathNumbers(index, database)
  if (files.includes(0, rootNode) || paths.includes(0)) {
    const giving = giveMissing(index, database, files, paths)
    if (database.isInTransaction()) yield* giving
    else {
      yield* inTransaction(database, giving)
      database.syncNow()
    }
  }
  return { files: yield* orderInSteps(files), paths: yield* orderInSteps(paths) }
}

function* giveMissing(
  index: ImageIndex,
  database: LayerDatabase,
  files: Float64Array,
  paths: Uint32Array,
): Steps {
  yield* giveFileNumbers(index, database, files)
  yield* givePathNumbers(index, database, paths)
}

/** The numbers that were given already; 0: none yet. */
function* readFileNumbers(index: ImageIndex, database: LayerDatabase): Steps<Float64Array> {
  const table = index.tableOf(outside)
  const known = new Map<string, number>()
  for (const { number, path } of database.eachFileNumber()) {
    known.set(path.toString('latin1'), number)
    yield
  }
  const files = new Float64Array(countNodes(table) + 1)
  for (const [node, path] of (yield* pathsInSteps(table)).entries()) {
    files[node] = known.get(path) ?? 0
    if (node % numbersOfStep === 0) yield
  }
  files[rootNode] = rootNode
  return files
}

function readPathNumbers({ storePaths }: ImageIndex, database: LayerDatabase): Uint32Array {
  const paths = new Uint32Array(storePaths.length)
  let place = 0
  // Both are sorted by name.
  for (const { number, name, narHash } of database.pathNumbers()) {
    while ((storePaths[place]?.name ?? name) < name) place++
    const wanted = storePaths[place]
    if (wanted?.name === name && wanted.narHash === narHash) paths[place] = number
  }
  return paths
}

function* giveFileNumbers(index: ImageIndex, database: LayerDatabase, files: Float64Array): Steps {
  const table = index.tableOf(outside)
  let next = 1 + Math.max(rootNode, database.lastFileNumber())
  for (let node = rootNode + 1; node < files.length; node++) {
    if (files[node] !== 0) continue
    database.writeFileNumber({ number: next, path: pathBelow(table, node) })
    files[node] = next++
    yield
  }
}

function* givePathNumbers(index: ImageIndex, database: LayerDatabase, paths: Uint32Array): Steps {
  let next = 1 + database.lastPathNumber()
  for (const [place, { name, narHash }] of index.storePaths.entries()) {
    if (paths[place] !== 0) continue
    database.writePathNumber({ number: next, name, narHash })
    paths[place] = next++
    yield
  }
}
