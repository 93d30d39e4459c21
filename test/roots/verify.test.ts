// `netimage layers verify` finds every damage to the structure of a layer.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { suite, test } from 'node:test'
import { openLayer } from './support/open-layer.ts'
import { needRecord } from '../../src/roots/store.ts'
import { listLayers } from '../../src/roots/stored-layer.ts'
import { verifyLayer, verifyStoredLayer } from '../../src/roots/verify.ts'
import { assertError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { find, makeImage, put, within } from './support/stored-layers.ts'
import { createIndex } from './support/tree-index.ts'

const freshName = freshNames(temporaryDirectory())
const directoryNode = { kind: 'directory', mode: 0o755, uid: 0, gid: 0 } as const
/** Numbers of nodes of the layer that is made below; nodes of the image begin with the root, 1. */
const [image, folder, file, inner] = [2, 2 ** 40, 2 ** 40 + 1, 2 ** 40 + 2]

/** @param damage done to the layer while it is closed */
async function problemsAfter(damage: (database: DatabaseSync, layer: string) => void) {
  const [tree, directory] = [freshName(), freshName()]
  for (const each of [tree, directory]) mkdirSync(each)
  writeFileSync(join(tree, 'image'), 'image')
  const index = createIndex('tree', tree)
  const layer = openLayer(directory, index)
  const { fileSystem: system } = layer
  assert.equal(system.create(system.root, Buffer.from('folder'), directoryNode), folder)
  assert.equal(put(system, 'folder/file', 'text'), file)
  assert.equal(system.create(folder, Buffer.from('inner'), directoryNode), inner)
  put(system, 'image', 'changed')
  assert.equal(find(system, 'image'), image)
  await layer.close()
  assert.deepEqual(verifyLayer(directory, index), { nodes: 5, problems: [] })
  const database = new DatabaseSync(join(directory, 'layer.sqlite'))
  try {
    damage(database, directory)
  } finally {
    database.close()
  }
  return verifyLayer(directory, index).problems
}

const damages: [string, string, RegExp][] = [
  [
    'links of a file',
    `UPDATE nodes SET links = 2 WHERE id = ${file}`,
    /has 1 link, but 2 in its record/,
  ],
  [
    'links of a directory',
    'UPDATE nodes SET links = 2 WHERE id = 1',
    /1 has 3 links, but 2 in its record/,
  ],
  ['a node that is missing', `DELETE FROM nodes WHERE id = ${file}`, /names node .*does not exist/],
  ['a name that is missing', `DELETE FROM entries WHERE node = ${file}`, /has no name/],
  ['a wrong parent', `UPDATE nodes SET parent = 1 WHERE id = ${inner}`, /recorded parent is 1/],
  [
    'a directory with two names',
    `INSERT INTO entries VALUES (1, x'62', ${inner}, 4294967297)`,
    /is another name of directory/,
  ],
  [
    'a directory below itself',
    `UPDATE entries SET directory = ${inner} WHERE node = ${folder}`,
    /has no name/,
  ],
  [
    'names in a node that is not a directory',
    `INSERT INTO entries VALUES (${file}, x'62', ${file}, 4294967297)`,
    /is not a directory/,
  ],
  [
    'removed names that the image does not have',
    `INSERT INTO entries VALUES (1, x'62', NULL, 0)`,
    /is removed, but the image does not have it/,
  ],
  ['cookies given twice', 'UPDATE entries SET cookie = 4294967297', /has a wrong cookie/],
  [
    'numbers that would be given again',
    `UPDATE meta SET value = ${inner} WHERE name = 'nextNode'`,
    /was not given yet/,
  ],
  [
    'data of a directory',
    `UPDATE nodes SET own_data = 1 WHERE id = ${inner}`,
    /has data, but is a directory/,
  ],
]

suite('a check finds', () => {
  for (const [what, sql, message] of damages) {
    test(what, async () => {
      const problems = await problemsAfter((database) => database.exec(sql))
      assert.match(problems.join('\n'), message)
    })
  }

  test('data that is missing', async () => {
    const problems = await problemsAfter((_, layer) =>
      rmSync(join(layer, 'data', file.toString(16))),
    )
    assert.deepEqual(problems, [`the data of node ${file} is missing`])
  })

  test('no problem in left-over data, which is removed when the layer is opened', async () => {
    const problems = await problemsAfter((_, layer) => writeFileSync(join(layer, 'data/77'), ''))
    assert.deepEqual(problems, [])
  })

  test('a database that is damaged', async () => {
    await assert.rejects(
      problemsAfter((database, layer) => {
        database.close()
        writeFileSync(join(layer, 'layer.sqlite'), Buffer.alloc(20_000, 'damage'))
        database.open()
      }),
      { code: 'bad-state' },
    )
  })
})

/** A stored layer with some names. @returns its database, and the damaged copies to write there */
async function damagedCopies() {
  const state = freshName()
  const place = [state, '10.0.0.7', makeImage(freshName())] as const
  await within(place, (system) => {
    for (let count = 0; count < 40; count++) put(system, `file-${count}`, 'x')
    put(system, 'etc/hostname', 'changed')
  })
  const [stored] = listLayers(state)
  assert.ok(stored)
  const file = join(stored.directory, needRecord(stored).name, 'layer.sqlite')
  // The next opening writes the number of this file again, if it looks for no damage before.
  const database = new DatabaseSync(file)
  database.exec('DELETE FROM files WHERE number = (SELECT max(number) FROM files)')
  database.close()
  const whole = readFileSync(file)
  const pageSize = 1024
  // The first page has the header: see the test above.
  const pages = Array.from({ length: whole.length / pageSize - 1 }, (_, page) => page + 1)
  const copies = pages.map((page) => {
    const damaged = Buffer.from(whole)
    damaged.fill(0, page * pageSize, (page + 1) * pageSize)
    return damaged
  })
  assert.ok(copies.length > 10)
  return { place, stored, file, copies }
}

suite('a damaged page of a database', () => {
  test('is told by a check, which writes nothing', async () => {
    const { stored, file, copies } = await damagedCopies()
    let found = 0
    for (const [page, copy] of copies.entries()) {
      writeFileSync(file, copy)
      try {
        const { problems } = await verifyStoredLayer(stored)
        if (problems.length > 0) found++
      } catch (error) {
        assertError(error, 'bad-state')
        found++
      }
      assert.ok(readFileSync(file).equals(copy), `page ${page}`)
    }
    // A free page may have any content.
    assert.ok(found > copies.length / 2, `${found} of ${copies.length}`)
  })

  test('does not make an opening of the layer say that the layer has lost nothing', async () => {
    const { place, file, copies } = await damagedCopies()
    let refused = 0
    for (const copy of copies) {
      writeFileSync(file, copy)
      try {
        await within(place, () => {})
      } catch (error) {
        assertError(error, 'bad-state')
        assert.match(String(error.hint), /reset/)
        refused++
      }
    }
    assert.ok(refused > 0)
  })
})
