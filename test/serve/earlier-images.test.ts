// The images that a machine had before, if something of them cannot be read for a moment.

import assert from 'node:assert/strict'
import { readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { imageLayout } from '../../src/image/layout.ts'
import { tryLock } from '../../src/lock.ts'
import { findNode, readSmallFile } from '../../src/roots/find-node.ts'
import { candidateOf } from '../../src/site/candidate.ts'
import { openSiteDatabase } from '../../src/site/database.ts'
import { addImage } from '../../src/site/images/add-image.ts'
import { decide } from '../../src/site/life/choose.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'
import { callerAt, identitiesOf } from './support/identities.ts'
import { openMachines, rootOf, type OpenMachines } from './support/machines.ts'
import { buildOtherTo, buildServedImage, servedFile } from './support/served-image.ts'

const freshName = freshNames(temporaryDirectory())
const machine = '10.0.0.7'
const own = ['nix', 'store', 'mine', 'file']

suite('an image that a machine had before', () => {
  let workspace: Workspace
  let [one, two] = ['', '']
  before(async () => {
    workspace = makeWorkspace('earlier-images')
    one = await buildServedImage(workspace, '127.0.0.1:/srv/test,v3')
    two = workspace.path('two')
    const built = await buildOtherTo(workspace, two, '--nfs-root', '127.0.0.1:/srv/test,v3')
    assert.equal(built.status, 0, built.stderr)
  })
  after(() => workspace.remove())

  /** A machine that runs its first image, has named a file of it, and is to boot the second one. */
  async function onTrial(isFirstGood: boolean) {
    const state = freshName()
    const opened = await openMachines(state, [one], identitiesOf())
    const { fileSystem } = await rootOf(opened, machine)
    const store = findNode(fileSystem, ['nix', 'store']) ?? assert.fail()
    const folder = { kind: 'directory', mode: 0o755, uid: 0, gid: 0 } as const
    const mine = fileSystem.create(store, Buffer.from('mine'), folder)
    fileSystem.link(findNode(fileSystem, servedFile) ?? assert.fail(), mine, Buffer.from('file'))
    if (isFirstGood) {
      const database = openSiteDatabase(state)
      database.change((writer) =>
        writer.keep((decide(writer.of(machine), undefined, 'good') ?? assert.fail()).life),
      )
      database.close()
    }
    const stored = new Set(readdirSync(join(state, 'store')))
    const [first = ''] = readdirSync(join(state, 'images'))
    const { image } = await addImage(state, two)
    await opened.site.assign(machine, await candidateOf(image), Date.now(), 'person')
    const shared = new Set(image.rootImage.storePaths.map(({ at }) => at))
    image.release()
    const storePath = [...stored]
      .map((name) => join(state, 'store', name))
      .find((each) => !shared.has(each))
    assert.ok(storePath !== undefined)
    return { opened, state, storePath, lock: imageLayout(join(state, 'images', first), '').lock }
  }

  const reads = async (opened: OpenMachines, path: readonly string[]) =>
    readSmallFile((await rootOf(opened, machine)).fileSystem, path, 100)

  test('makes the machine wait if it is damaged and the machine has named a file of it', async () => {
    const { opened, storePath } = await onTrial(false)
    await opened.boots(machine)
    renameSync(storePath, `${storePath}.away`)
    await waitUntil('the server says why', () => {
      assert.equal(opened.machines.nfsMachineOf(callerAt(machine), '/srv/test'), 'busy')
      return opened.errors.length > 0
    })
    assert.equal(opened.errors[0]?.code, 'image-damaged')
    renameSync(`${storePath}.away`, storePath)
    assert.equal(await reads(opened, own), 'serve')
    await opened[Symbol.asyncDispose]()
  })

  test('keeps the machine from no boot if it is damaged', async () => {
    const { opened, storePath } = await onTrial(true)
    const { fileSystem } = await rootOf(opened, machine)
    fileSystem.remove(findNode(fileSystem, own.slice(0, -1)) ?? assert.fail(), Buffer.from('file'))
    await opened.boots(machine)
    renameSync(storePath, `${storePath}.away`)
    assert.equal(await reads(opened, servedFile), undefined)
    assert.deepEqual([...new Set(opened.errors.map(({ code }) => code))], ['image-damaged'])
    await opened[Symbol.asyncDispose]()
  })

  test('stays in the root of a machine that runs, if the server cannot open it for a moment', async () => {
    const { opened, state, lock } = await onTrial(true)
    await opened.boots(machine)
    assert.equal(await reads(opened, servedFile), 'serve')
    await opened[Symbol.asyncDispose]()
    const changing = tryLock(lock, 'exclusive') ?? assert.fail()
    const again = await openMachines(state, [], identitiesOf())
    await waitUntil('the server says why', () => {
      assert.equal(again.machines.nfsMachineOf(callerAt(machine), undefined), 'busy')
      return again.errors.length > 0
    })
    assert.equal(again.errors[0]?.code, 'in-use')
    changing.release()
    await waitUntil('its root is open', () => {
      again.machines.nfsMachineOf(callerAt(machine), undefined)
      return again.machines.rootOf(machine) !== undefined
    })
    const { fileSystem } = again.machines.rootOf(machine) ?? assert.fail()
    assert.equal(readSmallFile(fileSystem, servedFile, 100), 'serve')
    await again[Symbol.asyncDispose]()
  })
})
