/** The rows of a layer that a binding changes outside the store paths: in the memory and in the database. */
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { readAll, type BindWork } from './bind-work.ts'
import type { Steps } from './steps.ts'
import type { NodeRow, PlacedEntry } from './layer-rows.ts'
import { firstOwn } from './numbers.ts'

export interface OutsideRows {
  /** Of nodes of images. */
  rows: Map<NodeId, NodeRow>
  /** Of directories of images, by name as `keyOf` gives it. */
  entries: Map<NodeId, Map<string, PlacedEntry>>
  /** The names in the layer that lead to a node of an image. */
  namesOf: (node: NodeId) => PlacedEntry[]
  hasName: (node: NodeId) => boolean
  /** The nodes of images to which names in the layer lead. */
  named: () => NodeId[]
  write: (row: NodeRow) => void
  put: (entry: PlacedEntry) => void
  /** The name is as in the image then. */
  deleteEntry: (entry: PlacedEntry) => void
  /** Deletes also the names in it. */
  deleteNode: (id: NodeId) => Steps
}

/** Nodes and names that are written later are in the maps, too. To be called in a transaction. */
export function* readOutsideRows({ database }: Pick<BindWork, 'database'>): Steps<OutsideRows> {
  const rows = new Map<NodeId, NodeRow>()
  for (const row of yield* readAll(database.eachNode(`id < ${firstOwn}`))) rows.set(row.id, row)
  const entries = new Map<NodeId, Map<string, PlacedEntry>>()
  /** By node, and then by directory and name: a machine can give very many names to one file. */
  const named = new Map<NodeId, Map<string, PlacedEntry>>()
  for (const entry of yield* readAll(database.eachEntry(`directory < ${firstOwn}`))) {
    add(entry)
    yield
  }
  for (const entry of yield* readAll(database.eachEntry(`node < ${firstOwn}`))) {
    addName(entry)
    yield
  }

  function add(entry: PlacedEntry): void {
    const inside = entries.get(entry.directory) ?? new Map<string, PlacedEntry>()
    entries.set(entry.directory, inside.set(keyOf(entry.name), entry))
  }

  function addName(entry: PlacedEntry): void {
    const { node } = entry
    if (node === undefined) return
    const known = named.get(node) ?? new Map<string, PlacedEntry>()
    named.set(node, known.set(placeOf(entry), entry))
  }

  function forgetName(entry: PlacedEntry, node: NodeId | undefined): void {
    const known = node === undefined ? undefined : named.get(node)
    if (node === undefined || !known) return
    known.delete(placeOf(entry))
    if (known.size === 0) named.delete(node)
  }

  return {
    rows,
    entries,
    namesOf: (node) => [...(named.get(node)?.values() ?? [])],
    hasName: (node) => named.has(node),
    named: () => [...named.keys()],
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
    *deleteNode(id) {
      rows.delete(id)
      database.deleteNode(id)
      const inside = entries.get(id)
      entries.delete(id)
      for (const entry of inside?.values() ?? []) {
        forgetName(entry, entry.node)
        database.deleteEntry(id, entry.name)
        yield
      }
    },
  }
}

export function keyOf(name: Buffer): string {
  return name.toString('latin1')
}

function placeOf({ directory, name }: PlacedEntry): string {
  return `${directory} ${keyOf(name)}`
}
