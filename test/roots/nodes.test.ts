// The limit of nodes that all layers remember.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { test } from 'node:test'
import { openLayerDatabase } from '../../src/roots/database.ts'
import { createNodes } from '../../src/roots/nodes.ts'
import { rootNode } from '../../src/roots/numbers.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { numbered } from './support/numbered.ts'
import { createIndex } from './support/tree-index.ts'

const freshName = freshNames(temporaryDirectory())
const limit = 200_000

test('all open layers together remember no more nodes than one layer may', () => {
  const tree = freshName()
  mkdirSync(tree)
  const image = numbered(createIndex('tree', tree))
  const spec = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const
  const time = { seconds: 0, nanoseconds: 0 }
  const layers = Array.from({ length: 6 }, () => {
    const directory = freshName()
    mkdirSync(directory)
    const database = openLayerDatabase(directory)
    return { database, nodes: createNodes(database, image, new Set()), made: [] as number[] }
  })
  for (const { nodes, made } of layers) {
    for (let count = 0; count < 45_000; count++) {
      made.push(nodes.add(rootNode, spec, time).id)
      nodes.written()
    }
  }
  // These nodes are only in memory, not in the database.
  const remembered = layers.map(({ nodes, made }) => {
    return made.filter((id) => {
      try {
        return nodes.find(id)
      } catch {
        return false
      }
    }).length
  })
  const sum = remembered.reduce((total, count) => total + count)
  assert.ok(sum <= limit, `${sum} are remembered`)
  // The largest layers forget their nodes, and the last one keeps the nodes that it uses.
  assert.equal(remembered.at(-1), 45_000)
  for (const { database, nodes } of layers) {
    nodes.close()
    database.close()
  }
})
