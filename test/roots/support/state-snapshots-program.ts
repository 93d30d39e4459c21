// Takes the snapshot before a trial, and goes back to it, with a kill before each step. Fails with an
// error.
//
//     node state-snapshots-program.ts DISK [without]
//
// DISK: a file system that can clone files, or that cannot (`without`), in a mount namespace of its own.

import assert from 'node:assert/strict'
import { cpSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { unrecordedAfter } from '../../../src/roots/boot-id.ts'
import { restoreSnapshot } from '../../../src/roots/snapshots.ts'
import {
  generationsBefore,
  keepStateBefore,
  nameLeft,
  putBack,
} from '../../../src/roots/state-snapshots.ts'
import { layerOf } from '../../../src/roots/stored-layer.ts'
import { verifyStoredLayer } from '../../../src/roots/verify.ts'
import { beforeDiskSteps, type DiskStep } from './disk-steps.ts'
import { makeImage, openOver, put, read } from './stored-layers.ts'

const [disk = '', how] = process.argv.slice(2)
const machine = 'dc:a6:32:01:02:03'
const image = makeImage(join(disk, 'image'))
const names = ['a', 'b', 'c', 'd']
const left = nameLeft(2)

/** Kills before other steps leave nothing else. */
const killedAt = ['clone', 'rename', 'fsync'] as const satisfies DiskStep[]

/** The machine writes the text to all its files. @param boot the attempt, or another identifier */
async function writes(state: string, boot: string, text: string): Promise<void> {
  const layer = openOver(state, machine, image, { boot })
  for (const name of names) put(layer.fileSystem, name, text)
  await layer.close()
}

/** The text of all files of the machine. */
async function textIn(state: string, attempt: number): Promise<string> {
  const layer = openOver(state, machine, image, { boot: String(attempt) })
  const texts = new Set(names.map((name) => read(layer.fileSystem, name)))
  await layer.close()
  assert.deepEqual((await verifyStoredLayer(layerOf(state, machine))).problems, [])
  assert.equal(texts.size, 1, [...texts].join())
  return [...texts].join()
}

async function textOfSnapshot(state: string, name: string): Promise<string> {
  await restoreSnapshot(layerOf(state, machine), name, assert.fail)
  return await textIn(state, 99)
}

let states = 0

/** What a kill before each step of the action leaves. */
async function kills(state: string, action: () => Promise<unknown>): Promise<[string, string][]> {
  const left: [string, string][] = []
  beforeDiskSteps((step) => {
    if (!killedAt.some((each) => each === step)) return
    const copy = join(disk, `state-${++states}`)
    cpSync(state, copy, { recursive: true })
    left.push([step, copy])
  })
  try {
    await action()
  } finally {
    beforeDiskSteps()
  }
  const found = new Set(left.map(([step]) => step))
  for (const step of killedAt) assert.ok(found.has(step), step)
  return left
}

const trial = { generation: 2, attempt: 2 }
const keep = (state: string) => keepStateBefore(layerOf(state, machine), trial)
const goBack = (state: string) => putBack(layerOf(state, machine), 2, left)

async function survivesKills(): Promise<void> {
  const state = join(disk, 'state')
  await writes(state, '1', 'one')
  const cutOff = await kills(state, async () => assert.equal(await keep(state), 'taken'))
  assert.equal(await keep(state), 'not needed')
  for (const [step, copy] of cutOff) {
    const isThere = generationsBefore(layerOf(copy, machine)).includes(2)
    assert.equal(await keep(copy), isThere ? 'not needed' : 'taken', step)
    assert.equal(await textIn(copy, 2), 'one', step)
    assert.equal(await textOfSnapshot(copy, 'before-generation-2'), 'one', step)
  }

  await writes(state, '2', 'two')
  let [before, after] = [0, 0]
  for (const [step, copy] of await kills(state, () => goBack(state))) {
    // As the kill left it, and then again.
    const seen = join(disk, `state-${++states}`)
    cpSync(copy, seen, { recursive: true })
    const text = await textIn(seen, 2)
    if (text === 'two') before++
    else after++
    assert.ok(['one', 'two'].includes(text), step)
    await goBack(copy)
    assert.equal(await textIn(copy, 3), 'one', step)
    assert.equal(await textOfSnapshot(copy, left), 'two', step)
  }
  assert.ok(before > 0 && after > 0, `${before} ${after}`)
  assert.equal(await textIn(state, 3), 'one')
}

/** Nothing is left of a snapshot that cannot be a clone. */
async function failsWithout(): Promise<void> {
  const state = join(disk, 'state')
  await writes(state, '1', 'one')
  assert.equal(await keep(state), 'cannot clone')
  assert.deepEqual(readdirSync(join(layerOf(state, machine).directory, 'snapshots')), [])
  // If the first attempt went without a snapshot, a later one gets none: it is of another state.
  for (const boot of ['2', unrecordedAfter('2')]) {
    await writes(state, boot, 'two')
    assert.equal(await keep(state), 'not needed', boot)
  }
}

if (how === 'without') {
  await failsWithout()
  console.log('cannot clone')
} else {
  await survivesKills()
  console.log('whole')
}
