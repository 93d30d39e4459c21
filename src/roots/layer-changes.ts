/**
 * What a layer changes of its image, and which nodes have data: read when the layer is opened. A layer can
 * have very many rows, so all is read in steps.
 */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import type { LayerDatabase } from './database.ts'
import { firstOfStore, firstOwn, lastOwn, pathAndPlace, storeNode } from './numbers.ts'
import type { Steps } from './steps.ts'

type Numbers = Pick<LayerDatabase, 'numbers'>

/** SQLite passes over so many rows in one step. This takes less than giving out each of them. */
const rowsOfStep = 16

/** Nodes of images that have a row. All others are as in the image. */
export function* overriddenNodes(database: Numbers): Steps<Set<NodeId>> {
  // With one condition, SQLite would look at all rows, and most may be the machine's own.
  const select = `SELECT id FROM nodes WHERE id < ? UNION ALL SELECT id FROM nodes WHERE id > ?`
  const nodes = new Set<NodeId>()
  for (const node of database.numbers(select, firstOwn, lastOwn)) {
    nodes.add(node)
    yield
  }
  return nodes
}

/** Directories that have entries. */
export function* overriddenDirectories(database: Numbers): Steps<Set<NodeId>> {
  // One after the other: SQLite would look at all entries to find which differ.
  const select = 'SELECT directory FROM entries WHERE directory > ? ORDER BY directory LIMIT 1'
  const directories = new Set<NodeId>()
  for (let last: NodeId | undefined = 0; last !== undefined;) {
    last = first(database.numbers(select, last))
    if (last !== undefined) directories.add(last)
    yield
  }
  return directories
}

export function* nodesWithData(database: Numbers): Steps<Set<NodeId>> {
  const nodes = new Set<NodeId>()
  for (let last: NodeId | undefined = -1; last !== undefined; yield) {
    const end = first(
      database.numbers(
        'SELECT id FROM nodes WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?',
        last,
        rowsOfStep,
      ),
    )
    const select = 'SELECT id FROM nodes WHERE id > ? AND id <= ? AND own_data = 1'
    for (const node of database.numbers(select, last, end ?? Number.MAX_SAFE_INTEGER))
      nodes.add(node)
    last = end
  }
  return nodes
}

/** The store paths that have rows of their nodes, by their numbers. */
export function* changedPaths(database: Numbers): Steps<Set<number>> {
  const select = 'SELECT id FROM nodes WHERE id >= ? ORDER BY id LIMIT 1'
  const paths = new Set<number>()
  for (let from = firstOfStore; ;) {
    const node = first(database.numbers(select, from))
    if (node === undefined) return paths
    const { path } = pathAndPlace(node)
    paths.add(path)
    from = storeNode(path + 1, 0)
    yield
  }
}

function first(numbers: Iterable<number>): number | undefined {
  for (const number of numbers) return number
  return undefined
}
