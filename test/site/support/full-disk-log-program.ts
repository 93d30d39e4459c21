// Changes a site while its disk is full. Fails with an error.
//
//     node full-disk-log-program.ts DISK
//
// DISK: a small disk, in a mount namespace of its own.

import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openSiteDatabase, openSiteToRead } from '../../../src/site/database.ts'
import { imageIds } from '../../../src/site/images/site-image.ts'
import { removeUnused } from '../../../src/site/images/remove-unused.ts'
import { netimageError } from '../../support/errors.ts'
import { fillDisk } from '../../support/fill-disk.ts'

const [disk = ''] = process.argv.slice(2)
const state = join(disk, 'state')
const ballast = join(disk, 'ballast')
const who = { kind: 'person', uid: 1000, name: 'alice' } as const

function look() {
  const reader = openSiteToRead(state) ?? assert.fail('there is no site')
  try {
    return { names: [...reader.names().values()], rows: reader.log({}).rows }
  } finally {
    reader.close()
  }
}

const site = openSiteDatabase(state)
const give = (name: string) =>
  site.change((writer) => {
    writer.setName('machine', name)
    writer.note({
      at: Date.now(),
      machine: 'machine',
      who,
      entry: { kind: 'named', newName: name },
    })
  })
give('first')
fillDisk(ballast)
let names = 1
// The log of the database has some room left.
try {
  for (;;) {
    give(`name ${names}`)
    names++
  }
} catch (error) {
  assert.ok(netimageError('disk-full')(error))
}
assert.equal(look().rows.length, names)
rmSync(ballast)
site.close()

await removeUnused(state, () => new Set())
const id = 'a'.repeat(64)
const image = join(state, 'images', id)
mkdirSync(join(image, 'nix-support'), { recursive: true })
writeFileSync(join(image, 'nix-support/lock'), '')
writeFileSync(join(image, 'content'), Buffer.alloc(512 * 1024))
fillDisk(ballast)
assert.throws(() => openSiteDatabase(state).change(() => {}), netimageError('disk-full'))
const { removedImages, freedBytes } = await removeUnused(state, () => new Set(), { who })
assert.deepEqual([removedImages, imageIds(state)], [[id], []])
assert.partialDeepStrictEqual(look().rows.slice(-2), [
  { who, entry: { kind: 'removed', images: [id] } },
  { who, entry: { kind: 'freed', storePaths: 0, freedBytes } },
])
process.stdout.write('as expected\n')
