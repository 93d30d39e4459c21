/** The rows of a layer that a binding changes outside the store paths: in the memory and in the database. */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import type { BindWork } from './bind-work.ts'
import type { NodeRow, PlacedEntry } from './database.ts'
import { firstOwn } from './numbers.ts'

export interface OutsideRows {
  /** Of nodes of images. */
  rows: Map<NodeId, NodeRow>
  /** Of directories of images, by name as `keyOf` gives it. */
  entries: Map<NodeId, Map<string, PlacedEntry>>
  /** The names in the layer that lead to nodes of images, by these nodes. */
  named: Map<NodeId, PlacedEntry[]>
  write: (row: NodeRow) => void
  put: (entry: PlacedEntry) => void
  /** The name is as in the image then. */
  deleteEntry: (entry: PlacedEntry) => void
  /** Deletes also the names in it. */
  deleteNode: (id: NodeId) => void
}

/** Nodes and names that are written later are in the maps, too. To be called in a transaction. */
export function readOutsideRows({ database }: Pick<BindWork, 'database'>): OutsideRows {
  const rows = new Map(database.nodesWhere(`id < ${firstOwn}`).map((row) => [row.id, row]))
  const entries = new Map<NodeId, Map<string, PlacedEntry>>()
  const named = new Map<NodeId, PlacedEntry[]>()
  for (const entry of database.entriesWhere(`directory < ${firstOwn}`)) add(entry)
  for (const entry of database.entriesWhere(`node < ${firstOwn}`)) addName(entry)

  function add(entry: PlacedEntry): void {
    const inside = entries.get(entry.directory) ?? new Map<string, PlacedEntry>()
    entries.set(entry.directory, inside.set(keyOf(entry.name), entry))
  }

  function addName(entry: PlacedEntry): void {
    const { node } = entry
    if (node !== undefined) named.set(node, [...(named.get(node) ?? []), entry])
  }

  function forgetName({ directory, name }: PlacedEntry, node: NodeId | undefined): void {
    if (node === undefined) return
    const others = (named.get(node) ?? []).filter(
      (each) => each.directory !== directory || !each.name.equals(name),
    )
    if (others.length > 0) named.set(node, others)
    else named.delete(node)
  }

  return {
    rows,
    entries,
    named,
    write(row) {
      rows.set(row.id, row)
      database.writeNode(row)
    },
    put(entry) {
      const { directory, name } = entry
      const before = entries.get(directory)?.get(keyOf(name)) ?? database.readEntry(directory, name)
      forgetName(entry, before?.node)
      database.writeEntry(directory, entry)
      add(entry)
      addName(entry)
    },
    deleteEntry(entry) {
      const { directory, name, node } = entry
      forgetName(entry, node)
      entries.get(directory)?.delete(keyOf(name))
      database.deleteEntry(directory, name)
    },
    deleteNode(id) {
      for (const entry of entries.get(id)?.values() ?? []) forgetName(entry, entry.node)
      rows.delete(id)
      entries.delete(id)
      database.deleteNode(id)
      database.deleteEntries(id)
    },
  }
}

export function keyOf(name: Buffer): string {
  return name.toString('latin1')
}
