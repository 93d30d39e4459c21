// The server's way to files in a root, compared with the way that the kernel finds in the same tree.

import assert from 'node:assert/strict'
import {
  lstatSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { findNode, readSmallFile } from '../../src/roots/find-node.ts'
import type { Layer } from '../../src/roots/layer.ts'
import { openLayer } from './support/open-layer.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { createIndex } from './support/tree-index.ts'

const paths = [
  ...['', 'a', 'a/b', 'a/b/file', 'a/missing', 'a/b/file/below', 'missing/file', 'toFile', 'toA'],
  ...['toA/b', 'toA/b/file', 'a/toRoot', 'a/toRoot/etc/passwd', 'long', 'a/b/empty', 'a/circle/x'],
]

/** Removed after the layer is closed. */
const directory = temporaryDirectory()

suite('a file in a root', () => {
  const tree = realpathSync(temporaryDirectory())
  let layer: Layer
  before(() => {
    mkdirSync(join(tree, 'a/b'), { recursive: true })
    writeFileSync(join(tree, 'a/b/file'), 'text')
    writeFileSync(join(tree, 'a/b/empty'), '')
    writeFileSync(join(tree, 'long'), 'x'.repeat(100))
    symlinkSync('a/b/file', join(tree, 'toFile'))
    symlinkSync('a', join(tree, 'toA'))
    symlinkSync('/', join(tree, 'a/toRoot'))
    symlinkSync('circle', join(tree, 'a/circle'))
    layer = openLayer(directory, createIndex('tree', tree))
  })
  after(() => layer.close())

  for (const path of paths) {
    test(`is found without links, as by the kernel: /${path}`, () => {
      const names = path.split('/').filter(Boolean)
      const file = join(tree, path)
      const stat = hasLinkAbove(tree, file) ? undefined : lstatOf(file)
      assert.equal(findNode(layer.fileSystem, names) !== undefined, stat !== undefined)
      const text = stat?.isFile() ? readFileSync(file, 'utf8').slice(0, 64) : undefined
      assert.equal(readSmallFile(layer.fileSystem, names, 64), text)
    })
  }
})

function hasLinkAbove(tree: string, file: string): boolean {
  for (let above = dirname(file); above.length > tree.length; above = dirname(above)) {
    if (lstatOf(above)?.isSymbolicLink()) return true
  }
  return false
}

/** Undefined if there is no such file, and if a file is in the place of a directory. */
function lstatOf(file: string) {
  try {
    return lstatSync(file)
  } catch {
    return undefined
  }
}
