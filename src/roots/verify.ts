/**
 * Checks the structure of a layer against its image. Brings the layer to the present format, then
 * reads the rows of its tables directly, not with the code that wrote them.
 */
import { existsSync } from 'node:fs'

import { dataFolder, dataName } from './data-files.ts'
import { databaseFile, openLayerDatabase, type LayerDatabase } from './database.ts'
import { readDropped } from './dropped-directories.ts'
import { toNodeRow, type NodeRow } from './layer-rows.ts'
import type { NodeId } from '../protocols/nfs/file-system.ts'
import { openLastImages } from './last-images.ts'
import type { ImageIndex } from './image-index.ts'
import { layOver } from './lay-over.ts'
import type { LayerImage } from './layer-image.ts'
import { namesIn } from './names-in.ts'
import type { AnyNode } from './nodes.ts'
import { isOfStore, isOwn, pathAndPlace, rootNode } from './numbers.ts'
import { plural } from '../progress.ts'
import { readRecord } from './record.ts'
import { doNow } from './steps.ts'
import { useContents } from './present-format.ts'
import { withLayer } from './store.ts'
import type { StoredLayer } from './stored-layer.ts'

export interface LayerCheck {
  /** How many nodes the machine sees; 0 if the database is damaged. */
  nodes: number
  /** One text for each problem; empty if there is none. */
  problems: string[]
}

interface Tables {
  image: LayerImage
  /** Store paths of the machine that have no names now, because paths of images hide them. */
  hidden: NodeId[]
  rows: Map<NodeId, NodeRow>
  /** By directory, then by name as latin1. The node is undefined if the name was removed. */
  entries: Map<NodeId, Map<string, { node: NodeId | undefined; cookie: number }>>
  problems: string[]
}

/** @throws `NetimageError` `in-use`, `bad-state`, `not-an-image`, `path-not-found` */
export function verifyStoredLayer(layer: StoredLayer): Promise<LayerCheck> {
  return withLayer(layer, () => {
    const record = readRecord(layer.directory)
    // The server was killed while it made the layer: nothing was written yet.
    if (!record) return { nodes: 0, problems: [] }
    const index = openLastImages(layer, record)
    try {
      const steps = useContents(layer.directory, record, index, function* (contents) {
        yield
        return verifyLayer(contents, index)
      })
      return doNow(steps).result
    } finally {
      index.close()
    }
  })
}

/**
 * @param contents of a layer that is closed
 * @throws `NetimageError` `bad-state`
 */
export function verifyLayer(contents: string, index: ImageIndex): LayerCheck {
  if (!existsSync(databaseFile(contents))) return { nodes: 0, problems: [] }
  const tables = readTables(contents, index)
  if (Array.isArray(tables)) return { nodes: 0, problems: tables }
  const { image, rows, problems } = tables

  const nodeOf = (id: NodeId): AnyNode | undefined => {
    const node = rows.get(id) ?? image.node(id)
    return node && node.links > 0 ? node : undefined
  }
  const names = new Map<NodeId, number>()
  const subdirectories = new Map<NodeId, number>()
  const pending = [rootNode]
  names.set(rootNode, 1)
  for (const node of tables.hidden) {
    names.set(node, 1)
    if (nodeOf(node)?.kind === 'directory') pending.push(node)
  }
  for (let id = pending.pop(); id !== undefined; id = pending.pop()) {
    for (const [name, child] of childrenOf(id, tables)) {
      const node = nodeOf(child)
      const shown = `${JSON.stringify(name)} in directory ${id}`
      if (!node) {
        problems.push(`${shown} names node ${child}, which does not exist`)
        continue
      }
      const count = (names.get(child) ?? 0) + 1
      names.set(child, count)
      if (node.kind !== 'directory') continue
      if (count > 1) {
        problems.push(`${shown} is another name of directory ${child}`)
        continue
      }
      if (node.parent !== id) {
        problems.push(`${shown} is a directory whose recorded parent is ${node.parent}`)
      }
      subdirectories.set(id, (subdirectories.get(id) ?? 0) + 1)
      pending.push(child)
    }
  }

  for (const id of image.nodes()) checkNode(id)
  // Also files that an earlier image brought, and that the machine keeps.
  for (const id of rows.keys()) if (isOwn(id) || !image.node(id)) checkNode(id)
  checkData(contents, tables)
  for (const directory of tables.entries.keys()) {
    if (nodeOf(directory)?.kind === 'directory') continue
    problems.push(`there are names in node ${directory}, which is not a directory`)
  }
  return { nodes: names.size, problems }

  function checkNode(id: NodeId): void {
    const node = nodeOf(id)
    if (!node) return
    const isDirectory = node.kind === 'directory'
    const count = names.get(id) ?? 0
    const links = isDirectory ? 2 + (subdirectories.get(id) ?? 0) : count
    if (count === 0) problems.push(`node ${id} has no name`)
    else if (node.links !== links) {
      problems.push(`node ${id} has ${plural(links, 'link')}, but ${node.links} in its record`)
    }
  }
}

/** @returns the problems of the file itself if it is damaged: its rows cannot be trusted then */
function readTables(contents: string, index: ImageIndex): Tables | string[] {
  const file = databaseFile(contents)
  const database = openLayerDatabase(contents)
  try {
    // Before `layOver`, which may write numbers: nothing is written to a damaged file.
    const damage = database.damage()
    if (damage.length > 0) return damage
    const image = doNow(layOver(index, database, contents))
    const hidden = database.hiddenPaths().map(({ node }) => node)
    const tables: Tables = { image, hidden, rows: new Map(), entries: new Map(), problems: [] }
    // For the store paths that the layer has changed, `layOver` has compared them already.
    for (const { number, name } of database.pathNumbers()) {
      const before = database.structureOf(number)
      const now = before === undefined ? undefined : image.structureOfPath(number)
      if (now === undefined || now === before) continue
      tables.problems.push(`store path ${name} has other files than when the machine first used it`)
    }
    const [nextNode, nextCookie] = [database.readMeta('nextNode'), database.readMeta('nextCookie')]
    for (const row of database.all('nodes')) {
      const node = toNodeRow(row, file)
      tables.rows.set(node.id, node)
      if (isOwn(node.id) && !(node.id < Number(nextNode))) {
        tables.problems.push(`node ${node.id} has a number that was not given yet`)
      }
    }
    for (const { directory, name, node, cookie } of database.all('entries')) {
      const id = Number(directory)
      const entries = tables.entries.get(id) ?? new Map()
      tables.entries.set(id, entries)
      const bytes = name instanceof Uint8Array ? Buffer.from(name) : Buffer.alloc(0)
      entries.set(bytes.toString('latin1'), {
        node: node === null ? undefined : Number(node),
        cookie: Number(cookie),
      })
      if (Number(cookie) > 0 && !(Number(cookie) < Number(nextCookie))) {
        tables.problems.push(`a name in directory ${id} has a cookie that was not given yet`)
      }
    }
    for (const directory of readDropped(database)) {
      if (tables.rows.get(directory)?.links === 0) tables.entries.delete(directory)
    }
    checkNumbers(tables, database)
    return tables
  } finally {
    database.close()
  }
}

/** What the layer changes must have a number, and a store path must have a structure, too. */
function checkNumbers({ rows, problems }: Tables, database: LayerDatabase): void {
  const paths = new Set(database.pathNumbers().map(({ number }) => number))
  const structures = database.structures()
  const changed = new Set([...rows.keys()].filter(isOfStore).map((id) => pathAndPlace(id).path))
  const files = new Set([rootNode])
  for (const { number } of database.eachFileNumber()) files.add(number)
  for (const id of rows.keys()) {
    if (isOwn(id) || isOfStore(id) || files.has(id)) continue
    problems.push(`file ${id} of the image has a number that was not given yet`)
  }
  for (const path of changed) {
    if (!paths.has(path)) problems.push(`store path ${path} has a number that was not given yet`)
    else if (!structures.has(path)) problems.push(`store path ${path} has no structure`)
  }
}

function childrenOf(id: NodeId, { image, entries, problems }: Tables) {
  const children = new Map<string, NodeId>()
  for (let place = 0; ; place++) {
    const child = image.childAt(id, place)
    if (!child) break
    children.set(child.name.toString('latin1'), child.node)
  }
  const cookies = new Set<number>()
  for (const [name, { node, cookie }] of entries.get(id) ?? []) {
    const isInImage = children.has(name)
    if (isInImage !== (cookie === 0) || (cookie > 0 && cookies.has(cookie))) {
      problems.push(`${JSON.stringify(name)} in directory ${id} has a wrong cookie`)
    }
    cookies.add(cookie)
    if (node !== undefined) children.set(name, node)
    else if (!children.delete(name)) {
      problems.push(
        `${JSON.stringify(name)} in directory ${id} is removed, but the image does not have it`,
      )
    }
  }
  return children
}

/** A file without a node is no problem: it is removed when the layer is opened. */
function checkData(contents: string, { rows, problems }: Tables): void {
  const files = new Set(namesIn(dataFolder(contents)))
  for (const { id, kind, ownData } of rows.values()) {
    if (!ownData) continue
    if (kind !== 'file') problems.push(`node ${id} has data, but is a ${kind}`)
    if (!files.has(dataName(id))) problems.push(`the data of node ${id} is missing`)
  }
}
