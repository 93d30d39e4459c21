/** Names and nodes outside the store, as they are in the database while a layer is being bound. */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { keyOf } from './bind-rows.ts'
import { readAll, type BindWork } from './bind-work.ts'
import type { NodeRow } from './layer-rows.ts'
import { toRow } from './nodes.ts'
import { rootNode } from './numbers.ts'
import type { Steps } from './steps.ts'

export interface NamesNow {
  /** @returns undefined if the directory does not have the name, or is no directory */
  childOf: (directory: NodeId, name: Buffer) => NodeId | undefined
  /** Follows no links. @param names of the way from the root */
  nodeAt: (names: readonly Buffer[]) => NodeId | undefined
  rowOf: (node: NodeId) => NodeRow | undefined
}

export function namesNow({ database, now }: Pick<BindWork, 'database' | 'now'>): NamesNow {
  function childOf(directory: NodeId, name: Buffer): NodeId | undefined {
    const entry = database.readEntry(directory, name)
    return entry ? entry.node : now.child(directory, name)
  }

  return {
    childOf,
    nodeAt(names) {
      let node: NodeId | undefined = rootNode
      for (const name of names) node = node && childOf(node, name)
      return node
    },
    rowOf(node) {
      const inImage = now.node(node)
      return database.readNode(node) ?? (inImage && toRow(inImage))
    },
  }
}

/** The names in a directory. */
export function* namesIn(
  { database, now }: Pick<BindWork, 'database' | 'now'>,
  directory: NodeId,
): Steps<Buffer[]> {
  const names: Buffer[] = []
  const changed = new Set<string>()
  for (const { name, node } of yield* readAll(database.eachEntry('directory = ?', directory))) {
    changed.add(keyOf(name))
    if (node !== undefined) names.push(name)
    yield
  }
  for (let place = 0; ; place++) {
    const child = now.childAt(directory, place)
    if (!child) return names
    if (!changed.has(keyOf(child.name))) names.push(child.name)
    yield
  }
}
