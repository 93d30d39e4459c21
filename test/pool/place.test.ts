// A tree is placed whole, whatever bytes are in the names of its files.

import { suite, test } from 'node:test'
import fc from 'fast-check'
import { restoreTo } from '../../src/nix/nar/restore.ts'
import { placeTree } from '../../src/pool/place.ts'
import { encodeNar, feedNar, narNode, type NarNode } from '../support/nar.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { assertSameLines, describeTree } from '../support/trees.ts'

const fresh = freshNames(temporaryDirectory())

function file(contents: string): NarNode {
  return { type: 'file', executable: false, contents: Buffer.from(contents) }
}

function directory(entries: Record<string, NarNode>): NarNode {
  return {
    type: 'directory',
    entries: Object.entries(entries)
      .map(([name, node]) => ({ name: Buffer.from(name, 'latin1'), node }))
      .sort((a, b) => a.name.compare(b.name)),
  }
}

const replacementCharacter = Buffer.from('\ufffd').toString('latin1')

/** Directories in which all names, some or none are UTF-8, one in another. */
const mixed = directory({
  text: directory({ 'Gr\xc3\xbc\xc3\x9fe': file('greetings') }),
  'Gr\xfc\xdfe': directory({ 'b\xe4r': file('bear'), text: directory({ deep: file('deep') }) }),
  [replacementCharacter]: file('its name says that it is a replacement'),
  '\xff': file('Node shows its name as a replacement'),
})

suite('placing a tree', () => {
  for (const method of ['copy', 'hardlink'] as const) {
    test(`keeps names, contents, modes and times (${method})`, () => {
      fc.assert(
        fc.property(narNode, (node) => {
          const [from, to] = [fresh(), fresh()]
          feedNar([encodeNar(node)], restoreTo(from))
          placeTree(from, to, method)
          assertSameLines(describeTree(to), describeTree(from))
        }),
        { examples: [[mixed]], numRuns: 60 },
      )
    })
  }
})
