// Binds a layer with files of its site while the disk is nearly full, with more and more room.
//
//     node full-site-files-program.ts DISK
//
// DISK: a small disk, in a mount namespace of its own.

import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { isDatabaseFull } from '../../../src/database-error.ts'
import { asNetimageError, isDiskFull } from '../../../src/errors.ts'
import { fillDisk } from '../../support/fill-disk.ts'
import { makeBoundLayers, treeOf } from './bound-layer.ts'
import { find, read } from './stored-layers.ts'

const [disk = ''] = process.argv.slice(2)
const ballast = join(disk, 'ballast')
const layers = makeBoundLayers(join(disk, 'top'))
const image = layers.image('a', treeOf({ 'etc/hostname': 'x' }))
const names = Array.from({ length: 20 }, (_, count) => `secret-${count}`)
const text = (name: string) => name.repeat(1000)
const siteFiles = () => ({
  ifMissing: [],
  directory: {
    ...{ path: ['etc', 'secrets'], modes: { directory: 0o500, file: 0o400 } },
    files: names.map((name) => ({ name: Buffer.from(name), bytes: Buffer.from(text(name)) })),
  },
  onProblem: assert.ifError,
})
await layers.within(image, () => {}, { binding: 'before' })
let refused = 0
for (let room = 0; ; room += 32 * 1024) {
  rmSync(ballast, { force: true })
  fillDisk(ballast, room)
  try {
    const layer = layers.open(image, 'given', [], undefined, siteFiles)
    const found = names.map((name) => read(layer.fileSystem, `etc/secrets/${name}`))
    await layer.close()
    assert.deepEqual(found, names.map(text))
    break
  } catch (error) {
    const isFull = isDiskFull(error) || isDatabaseFull(error)
    assert.ok(isFull || asNetimageError(error).code === 'disk-full', String(error))
    refused++
  }
  // The layer is as before.
  rmSync(ballast)
  await layers.within(image, (system) => assert.equal(find(system, 'etc/secrets'), undefined), {
    binding: 'before',
  })
}
process.stdout.write(`refused ${refused}, given\n`)
