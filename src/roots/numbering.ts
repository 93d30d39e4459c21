/** Gives numbers to the files and store paths of an image that a layer has not met before. */
import type { LayerDatabase } from './database.ts'
import { outside, type ImageIndex } from './image-index.ts'
import { countNodes, pathBelow, pathsBelow } from './image-table.ts'
import type { Numbering } from './layer-image.ts'
import { rootNode } from './numbers.ts'
import { doNow, type Steps } from './steps.ts'

/**
 * The numbers are on the disk when this returns: after a loss of power, no number is given to
 * something else. In a transaction of the caller, they are when the caller has synced it.
 *
 * @throws an error of the database or the system
 */
export function giveNumbers(index: ImageIndex, database: LayerDatabase): Numbering {
  return doNow(giveNumbersInSteps(index, database))
}

/** As `giveNumbers`. If it is ended before, no numbers were given. */
export function* giveNumbersInSteps(index: ImageIndex, database: LayerDatabase): Steps<Numbering> {
  const { numbering, isComplete } = readNumbers(index, database)
  if (isComplete) return numbering
  if (database.isInTransaction()) {
    yield* giveMissing(index, database, numbering)
    return numbering
  }
  let isCommitted = false
  database.begin()
  try {
    yield* giveMissing(index, database, numbering)
    database.commit()
    isCommitted = true
  } finally {
    if (!isCommitted) database.rollback()
  }
  database.syncNow()
  return numbering
}

function* giveMissing(index: ImageIndex, database: LayerDatabase, numbering: Numbering): Steps {
  yield* giveFileNumbers(index, database, numbering)
  givePathNumbers(index, database, numbering)
}

/** The numbers that were given already; 0: none yet. */
function readNumbers(
  index: ImageIndex,
  database: LayerDatabase,
): { numbering: Numbering; isComplete: boolean } {
  const table = index.tableOf(outside)
  const known = new Map(
    database.fileNumbers().map(({ number, path }) => [path.toString('latin1'), number]),
  )
  const files = new Float64Array(countNodes(table) + 1)
  for (const [node, path] of pathsBelow(table).entries()) files[node] = known.get(path) ?? 0
  files[rootNode] = rootNode
  const paths = readPathNumbers(index, database)
  const isComplete = !files.subarray(1).includes(0) && !paths.includes(0)
  return { numbering: { files, paths }, isComplete }
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

function* giveFileNumbers(index: ImageIndex, database: LayerDatabase, { files }: Numbering): Steps {
  const table = index.tableOf(outside)
  let next = 1 + Math.max(rootNode, database.lastFileNumber())
  for (let node = rootNode + 1; node < files.length; node++) {
    if (files[node] !== 0) continue
    database.writeFileNumber({ number: next, path: pathBelow(table, node) })
    files[node] = next++
    yield
  }
}

function givePathNumbers(index: ImageIndex, database: LayerDatabase, { paths }: Numbering): void {
  let next = 1 + database.lastPathNumber()
  for (const [place, { name, narHash }] of index.storePaths.entries()) {
    if (paths[place] !== 0) continue
    database.writePathNumber({ number: next, name, narHash })
    paths[place] = next++
  }
}
