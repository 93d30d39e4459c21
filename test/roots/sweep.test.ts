// The old contents of a layer that was reset are removed while machines are served.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { listLayers } from '../../src/roots/stored-layer.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { makeImage, openOver, put, read, within } from './support/stored-layers.ts'

const freshName = freshNames(temporaryDirectory())
const mac = 'dc:a6:32:01:02:03'
const files = 200

/** A layer with many files. `reset` opens it without them, as `--ephemeral` does. */
async function makeOne() {
  const state = freshName()
  const place = [state, mac, makeImage(freshName())] as const
  const name = await within(place, (system, layer) => {
    for (let index = 0; index < files; index++) put(system, `file-${index}`, 'text')
    return layer.name
  })
  const [layer] = listLayers(state)
  assert.ok(layer)
  const old = join(layer.directory, name)
  const left = () => (existsSync(join(old, 'data')) ? readdirSync(join(old, 'data')).length : 0)
  const reset = () => openOver(...place, { reset: 'now' })
  return { place, old, left, reset }
}

suite('the old contents of a layer', () => {
  test('are removed even if another program has left files there', async () => {
    const { place, old, reset } = await makeOne()
    const layer = reset()
    await layer.close()
    const machine = dirname(dirname(old))
    const foreign = [join(machine, '.DS_Store'), join(dirname(old), '.nfs000000000000002a')]
    const ours = join(machine, '.removed-0123456789ab')
    for (const file of [...foreign, ours]) writeFileSync(file, '')
    const again = openOver(...place)
    await waitUntil('ours are gone', () => !existsSync(old) && !existsSync(ours))
    await again.close()
    for (const file of foreign) assert.ok(existsSync(file), file)
  })

  test('are removed one by one, and others are served meanwhile', async () => {
    const { old, left, reset } = await makeOne()
    const layer = reset()
    assert.equal(left(), files)
    const seen = new Set<number>()
    while (existsSync(old)) {
      seen.add(left())
      put(layer.fileSystem, 'new', `${seen.size}`)
      await turn()
    }
    assert.ok(seen.size > 10, `seen ${seen.size} times`)
    assert.equal(read(layer.fileSystem, 'new'), `${seen.size}`)
    assert.equal(read(layer.fileSystem, 'file-1'), undefined)
    await layer.close()
  })

  test('do not keep the server from ending, and are removed the next time', async () => {
    const { place, old, left, reset } = await makeOne()
    const layer = reset()
    await layer.close()
    assert.ok(left() > 0)
    const again = openOver(...place)
    while (existsSync(old)) await turn()
    await again.close()
  })
})
