// The names of what a layer writes about its images, which other versions of netimage read.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import * as v from 'valibot'
import { readId } from '../../src/roots/root-image.ts'
import { layerOf } from '../../src/roots/stored-layer.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { firstSystem, makeImage, within } from './support/stored-layers.ts'

const freshName = freshNames(temporaryDirectory())
const machine = 'dc:a6:32:01:02:03'

const recordSchema = v.looseObject({ name: v.string(), image: v.unknown() })

test('a layer calls the id of an image its identity on the disk, as earlier versions do', async () => {
  const [state, image] = [freshName(), makeImage(freshName())]
  for (let count = 0; count < 2; count++) await within([state, machine, image], () => {})
  const { directory } = layerOf(state, machine)
  const text = readFileSync(join(directory, 'record.json'), 'utf8')
  const record = v.parse(recordSchema, JSON.parse(text))
  const written = { directory: image, name: 'pi', toplevel: firstSystem, identity: readId(image) }
  assert.deepEqual(record.image, written)
  const database = new DatabaseSync(join(directory, record.name, 'layer.sqlite'))
  const found = database.prepare("SELECT value FROM binding WHERE name = 'identity'").get()
  assert.equal(found?.['value'], readId(image))
  database.close()
})
