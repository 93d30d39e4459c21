// A machine tries a generation and goes back with its state from before. Fails with an error.
//
//     node states-program.ts DISK IMAGE OTHER
//
// DISK: a file system that can clone files, in a mount namespace of its own. IMAGE, OTHER: two images.

import assert from 'node:assert/strict'
import { mkdirSync, renameSync } from 'node:fs'
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { mock } from 'node:test'
import { findNode, readSmallFile } from '../../../src/roots/find-node.ts'
import { listNames, snapshotOf, takeSnapshot } from '../../../src/roots/snapshots.ts'
import { isInUse } from '../../../src/roots/store.ts'
import { layerOf } from '../../../src/roots/stored-layer.ts'
import { assertError } from '../../support/errors.ts'
import { assertFailed, netimage, netimageJson } from '../../support/netimage.ts'
import { waitUntil } from '../../support/waiting.ts'
import { callerAt, callerLeaves, identitiesOf } from './identities.ts'
import { openMachines, rootOf, type OpenMachines } from './machines.ts'
import { addTo, sayGood } from './person.ts'

const [disk = '', image = '', other = ''] = process.argv.slice(2)
const machine = '10.0.0.7'
const identities = identitiesOf()
const file = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const

const { copyFile } = promises
/** The error of the disk when a file is cloned. */
let cloneError: string | undefined
mock.method(promises, 'copyFile', (...given: Parameters<typeof copyFile>) => {
  if (cloneError === undefined) return copyFile(...given)
  return Promise.reject(Object.assign(new Error(cloneError), { code: cloneError }))
})
syncBuiltinESMExports()

async function writes(created: OpenMachines, text: string): Promise<void> {
  const { fileSystem } = await rootOf(created, machine)
  const { root } = fileSystem
  const known = findNode(fileSystem, ['state'])
  const node = known ?? fileSystem.create(root, Buffer.from('state'), file)
  fileSystem.write(node, 0, Buffer.from(text))
}

async function reads(created: OpenMachines): Promise<string | undefined> {
  return readSmallFile((await rootOf(created, machine)).fileSystem, ['state'], 100)
}

/** Machines whose only machine has a good generation and is given another one. */
async function onTrial(name: string): Promise<{ created: OpenMachines; state: string }> {
  const state = join(disk, name)
  const created = await openMachines(state, [image], identities)
  await writes(created, 'one')
  sayGood(state, machine)
  await created.site.assign(machine, await addTo(state, other), Date.now(), 'person')
  return { created, state }
}

/** The machine has no connection any more. */
async function closes({ machines }: OpenMachines, state: string): Promise<void> {
  identities.leaves(callerLeaves(machine))
  machines.closeUnused(Infinity)
  await waitUntil('the layer is closed', () => !isInUse(layerOf(state, machine)))
}

const snapshots = (state: string) => listNames(layerOf(state, machine))

async function goesBack(): Promise<void> {
  const { created, state } = await onTrial('back')
  const at = ['--state', state]
  const rollback = ['site', 'rollback', machine, '--to', '1', '--with-state']
  const early = await netimage([...rollback, '--json', ...at])
  assertFailed(early, 'path-not-found', { actual: 1 })

  await created.boots(machine)
  assert.equal(await reads(created), 'one')
  assert.deepEqual(snapshots(state), ['before-generation-2'])
  await writes(created, 'two')
  await created.boots(machine)
  await writes(created, 'too')

  // While the machine runs, nothing changes, also if its layer is closed meanwhile.
  const said = await netimageJson([...rollback, ...at])
  const left = 'left-after-attempt-3'
  assert.partialDeepStrictEqual(said, { snapshot: 'before-generation-2', leftAs: left, next: 1 })
  const shown = await netimage(['site', 'status', machine, ...at])
  assert.match(shown.stdout, /^ {2}state {2}at its next start, that from before generation 2$/m)
  await closes(created, state)
  assert.equal(await reads(created), 'too')

  // A snapshot of a person stays, and one of a generation that the machine does not keep goes.
  await closes(created, state)
  const layer = layerOf(state, machine)
  await takeSnapshot(layer, 'mine')
  mkdirSync(snapshotOf(layer, 'before-generation-9'))
  await created.boots(machine)
  assert.equal(await reads(created), 'one')
  assert.equal((await rootOf(created, machine)).path, '/srv/test')
  assert.deepEqual(snapshots(state).toSorted(), ['before-generation-2', left, 'mine'])
  assert.deepEqual(created.told.map(({ kind, generation }) => [kind, generation]).at(-1), [
    'state back',
    1,
  ])
  await writes(created, 'new')
  await created.boots(machine)
  assert.equal(await reads(created), 'new')
  assert.deepEqual(created.errors, [])
  await created[Symbol.asyncDispose]()
}

async function bootsWithout(): Promise<void> {
  const { created, state } = await onTrial('failed')
  cloneError = 'EIO'
  await created.boots(machine)
  assert.equal(await reads(created), 'one')
  assert.deepEqual(
    created.errors.map(({ code }) => code),
    ['file-system'],
  )
  cloneError = undefined
  // The state is not that from before any more.
  await created.boots(machine)
  await writes(created, 'two')
  assert.deepEqual(snapshots(state), [])
  await created[Symbol.asyncDispose]()
}

async function saysThatItCannotClone(): Promise<void> {
  const { created, state } = await onTrial('not-cloning')
  cloneError = 'ENOTSUP'
  await created.boots(machine)
  assert.equal(await reads(created), 'one')
  sayGood(state, machine)
  await created.site.assign(machine, await addTo(state, image), Date.now(), 'person')
  await created.boots(machine)
  assert.equal(await reads(created), 'one')
  const missing = created.told.filter(({ kind }) => kind === 'no snapshot')
  assert.deepEqual(
    missing.map(({ generation }) => generation),
    [2],
  )
  assert.deepEqual([snapshots(state), created.errors], [[], []])
  cloneError = undefined
  await created[Symbol.asyncDispose]()
}

async function waitsForItsState(): Promise<void> {
  const { created, state } = await onTrial('waiting')
  const at = ['--state', state]
  const rollback = ['site', 'rollback', machine, '--to', '1']
  await created.boots(machine)
  await writes(created, 'two')
  await netimageJson([...rollback, '--with-state', ...at])
  const snapshot = snapshotOf(layerOf(state, machine), 'before-generation-2')
  renameSync(snapshot, join(disk, 'elsewhere'))
  await created.boots(machine)
  await waitUntil('the server says why', () => {
    assert.equal(created.machines.nfsMachineOf(callerAt(machine), '/srv/test'), 'busy')
    return created.errors.length > 0
  })
  assertError(created.errors[0], 'path-not-found', { file: snapshot })
  await netimageJson([...rollback, ...at])
  assert.equal(await reads(created), 'two')
  await created[Symbol.asyncDispose]()
}

await goesBack()
await waitsForItsState()
await saysThatItCannotClone()
await bootsWithout()
console.log('done')
