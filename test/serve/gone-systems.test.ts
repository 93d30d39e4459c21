// A machine publishes a system, and loses the system before it boots it.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { manifestName } from '../../src/image/layout.ts'
import { openBootFile } from '../../src/protocols/boot-files.ts'
import type { FileSystem } from '../../src/protocols/nfs/file-system.ts'
import { findNode } from '../../src/roots/find-node.ts'
import { restoreSnapshot, takeSnapshot } from '../../src/roots/snapshots.ts'
import { nameBefore } from '../../src/roots/state-snapshots.ts'
import { resetLayer } from '../../src/roots/store.ts'
import { layerOf } from '../../src/roots/stored-layer.ts'
import { startPublishing } from '../../src/serve/publishing.ts'
import { candidateOf } from '../../src/site/candidate.ts'
import { openSiteDatabase } from '../../src/site/database.ts'
import { addImage } from '../../src/site/images/add-image.ts'
import { decide, rollback } from '../../src/site/life/choose.ts'
import type { Life } from '../../src/site/life/life.ts'
import { wishState } from '../../src/site/life/states.ts'
import { textOf } from '../protocols/support/file-text.ts'
import { plant, plantAll, systemOf } from '../site/publish/support/roots.ts'
import { waitUntil } from '../support/waiting.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'
import { callerLeaves, identitiesOf } from './support/identities.ts'
import { openMachines, rootOf } from './support/machines.ts'
import { buildOtherTo, buildServedImage } from './support/served-image.ts'

const name = '10.0.0.7'
const own = systemOf('own')

suite('a system that a machine published', () => {
  let workspace: Workspace
  let image: string
  before(async () => {
    workspace = makeWorkspace('gone-systems')
    image = await buildServedImage(workspace, '127.0.0.1:/srv/test,v3')
  })
  after(() => workspace.remove())

  /** A machine that runs the image of the server, and that boots its own system next, in trial. */
  async function start(directory: string, ephemeral = false) {
    const state = workspace.path(directory)
    const identities = identitiesOf()
    const opened = await openMachines(state, [image], identities, {}, ephemeral)
    const { machines, site, systems, boots, errors, told } = opened
    await rootOf(opened, name)
    const publishing = startPublishing({
      ...{ state, site, systems, machines, ephemeral: false },
      onError: (error) => errors.push(error),
    })
    let count = 0
    const world = {
      ...{ opened, state, site, errors, told },
      root: async () => (await rootOf(opened, name)).fileSystem,
      /** @returns the number of the generation */
      async publish(system = own): Promise<number | undefined> {
        const fileSystem = await world.root()
        plantAll(fileSystem, system.files)
        plant(fileSystem, '/nix/var/netimage/publish/answer', { file: '' })
        const request = { version: 1, id: `id${++count}`, toplevel: system.toplevel }
        const text = JSON.stringify(request)
        plant(fileSystem, '/nix/var/netimage/publish/request', { file: text })
        publishing.notice(name)
        const answer = findNode(fileSystem, ['nix', 'var', 'netimage', 'publish', 'answer']) ?? 0
        const read = () => {
          const bytes = Buffer.alloc(fileSystem.attributes(answer).size)
          return bytes.toString('utf8', 0, fileSystem.read(answer, 0, bytes))
        }
        await waitUntil('the request is answered', () => read().includes(`id${count}\nstatus pub`))
        return site.lifeOf(name).current
      },
      /** The machine starts again. @returns the system of its kernel, and whether its root has init */
      async boots(): Promise<[kernel: string, hasInit: boolean]> {
        await boots(name)
        const door = { address: name, protocol: 'http' } as const
        const found = await openBootFile(machines.treesOf, door, 'boot.ipxe')
        if (found.kind !== 'file') return assert.fail('there is no boot file')
        const script = textOf(found.file)
        found.close()
        const init = /init=(\S+)/.exec(script)?.[1] ?? ''
        const hasInit = findNode(await world.root(), init.split('/').filter(Boolean)) !== undefined
        return [init.split('-').at(-1)?.replace('/init', '') ?? '', hasInit]
      },
      async isOff() {
        identities.leaves(callerLeaves(name))
        machines.closeUnused(Infinity)
        await machines.whenClosed(name)
      },
      say: (change: (life: Life) => Life | undefined) => say(state, change),
      isGood: (number: number) =>
        say(state, (life) => decide(life, number, 'good')?.life ?? assert.fail()),
      verdicts: () => site.lifeOf(name).generations.map(({ verdict }) => verdict),
      async [Symbol.asyncDispose]() {
        await publishing.close()
        await opened[Symbol.asyncDispose]()
      },
    }
    return world
  }

  test('is not booted if the machine has removed it, and can be published again', async () => {
    await using world = await start('removed')
    assert.equal(await world.publish(), 2)
    world.isGood(1)
    assert.deepEqual(await world.boots(), ['own', true])
    remove(await world.root(), own.toplevel)
    assert.deepEqual(await world.boots(), ['serve', true])
    assert.deepEqual(world.verdicts(), ['good', 'bad'])
    const { attempts, generations } = world.site.lifeOf(name)
    assert.deepEqual(
      attempts.map(({ generation }) => generation),
      [1, 2, 1],
    )
    const why = `the machine does not have ${own.toplevel} any more; `
    assert.ok(generations[1]?.reason?.startsWith(why), generations[1]?.reason)
    assert.deepEqual(
      world.told.filter(({ kind }) => kind === 'bad').map(({ generation }) => generation),
      [2],
    )
    assert.equal(await world.publish(), 3)
    assert.deepEqual(await world.boots(), ['own', true])
    assert.deepEqual(world.errors, [])
  })

  test('is left for another good generation if it was the last good one', async () => {
    await using world = await start('last-good')
    world.isGood(1)
    const other = systemOf('other')
    for (const system of [own, other]) world.isGood((await world.publish(system)) ?? 0)
    assert.deepEqual(await world.boots(), ['other', true])
    const root = await world.root()
    for (const { toplevel } of [own, other]) remove(root, toplevel)
    assert.deepEqual(await world.boots(), ['serve', true])
    assert.deepEqual(world.verdicts(), ['good', 'bad', 'bad'])
    assert.equal(world.site.lifeOf(name).lastGood, 1)
  })

  test('is left for the image, in trial, if no generation was good', async () => {
    await using world = await start('never-good')
    await world.publish()
    remove(await world.root(), `${own.toplevel}/init`)
    assert.deepEqual(await world.boots(), ['serve', true])
    assert.deepEqual(world.verdicts(), ['trial', 'bad'])
    assert.equal(world.site.lifeOf(name).current, 1)
  })

  test('is there if an image brings it, also if the machine removed it', async () => {
    await using world = await start('in-image')
    const otherPlace = workspace.path('other')
    const built = await buildOtherTo(workspace, otherPlace, '--nfs-root', '127.0.0.1:/srv/test,v3')
    assert.equal(built.status, 0, built.stderr)
    for (const each of [otherPlace, image]) {
      const { image: added } = await addImage(world.state, each)
      const candidate = await candidateOf(added)
      added.release()
      const assigned = await world.site.assign(name, candidate, Date.now(), 'person')
      world.isGood('refused' in assigned ? 0 : assigned.generation.number)
    }
    assert.deepEqual(await world.boots(), ['serve', true])
    const { toplevel } = world.site.lifeOf(name).generations[1] ?? assert.fail()
    assert.equal(await world.publish({ toplevel, files: {} }), 4)
    remove(await world.root(), toplevel)
    assert.deepEqual(await world.boots(), ['other', true])
    const { attempts, generations } = world.site.lifeOf(name)
    assert.equal(attempts.at(-1)?.generation, 4)
    assert.ok(generations[3]?.published)
    assert.deepEqual(world.errors, [])
  })

  test('is found to be gone also if the image of another system is damaged', async () => {
    await using world = await start('damaged')
    const { opened, site, state } = world
    world.isGood(1)
    const otherPlace = workspace.path('to-be-damaged')
    const built = await buildOtherTo(workspace, otherPlace, '--nfs-root', '127.0.0.1:/srv/test,v3')
    assert.equal(built.status, 0, built.stderr)
    const { image: added } = await addImage(state, otherPlace)
    await site.assign(name, await candidateOf(added), Date.now(), 'person')
    added.release()
    assert.deepEqual(await world.boots(), ['other', true])
    assert.equal(await world.publish(), 3)
    world.say((life) => {
      const back = rollback(life, 1)
      return typeof back === 'string' ? undefined : back.life
    })
    assert.deepEqual(await world.boots(), ['serve', true])
    const second = systemOf('second')
    assert.equal(await world.publish(second), 4)
    for (const { toplevel } of [own, second]) remove(await world.root(), toplevel)
    opened.systems.closeUnused(opened.machines.systems())
    writeFileSync(join(added.directory, manifestName), '{}')
    assert.deepEqual(await world.boots(), ['serve', true])
    assert.equal(site.lifeOf(name).generations[3]?.verdict, 'bad')
    assert.deepEqual(
      world.errors.map(({ code }) => code),
      ['image-damaged'],
    )
  })

  test('is gone after a reset, and there again with a snapshot', async () => {
    await using world = await start('reset')
    world.isGood(1)
    const layer = layerOf(world.state, name)
    const first = await world.publish()
    await world.isOff()
    await takeSnapshot(layer, 'kept')
    await resetLayer(layer, assert.fail)
    assert.deepEqual(await world.boots(), ['serve', true])
    await world.isOff()
    await restoreSnapshot(layer, 'kept', assert.fail)
    world.isGood(first ?? 0)
    world.say((life) => {
      const back = rollback({ ...life, lastGood: 2 }, 2)
      return typeof back === 'string' ? assert.fail(back) : back.life
    })
    assert.deepEqual(await world.boots(), ['own', true])
  })

  test('is looked for in the state that the machine goes back to', async () => {
    await using world = await start('back')
    world.isGood(1)
    await world.publish()
    world.isGood(2)
    assert.deepEqual(await world.boots(), ['own', true])
    const layer = layerOf(world.state, name)
    const goesBack = async (before: number) => {
      await world.isOff()
      world.say((life) => wishState({ ...life, current: 2 }, { to: 2, before }))
      return await world.boots()
    }
    await world.isOff()
    await takeSnapshot(layer, nameBefore(3))
    remove(await world.root(), own.toplevel)
    assert.deepEqual(await goesBack(3), ['own', true])
    remove(await world.root(), own.toplevel)
    await world.isOff()
    await takeSnapshot(layer, nameBefore(4))
    plantAll(await world.root(), own.files)
    assert.deepEqual(await goesBack(4), ['serve', true])
    assert.equal(world.site.lifeOf(name).stateBack, undefined)
  })

  test('is gone at the next boot if the layer is reset at each boot', async () => {
    await using world = await start('ephemeral', true)
    world.isGood(1)
    assert.equal(await world.publish(), 2)
    assert.deepEqual(await world.boots(), ['serve', true])
    assert.deepEqual(world.verdicts(), ['good', 'bad'])
  })

  test('gives the machine its root in the boot in which it removes the system', async () => {
    let removed: string
    {
      await using world = await start('running')
      world.isGood(1)
      await world.publish()
      assert.deepEqual(await world.boots(), ['own', true])
      const root = await world.root()
      remove(root, own.toplevel)
      await root.stable()
      removed = world.state
    }
    callerLeaves(name)
    await using again = await openMachines(removed, [image], identitiesOf())
    await rootOf(again, name)
    assert.equal(again.site.lifeOf(name).attempts.length, 2)
  })
})

function say(state: string, change: (life: Life) => Life | undefined): void {
  const database = openSiteDatabase(state)
  database.change((writer) => writer.keep(change(writer.of(name)) ?? assert.fail()))
  database.close()
}

/** Removes a file, or a directory with all that is in it. */
function remove(fileSystem: FileSystem, path: string): void {
  const names = path.split('/').filter(Boolean)
  const last = names.pop() ?? ''
  const directory = findNode(fileSystem, names) ?? assert.fail(path)
  const node = fileSystem.lookup(directory, Buffer.from(last)) ?? assert.fail(path)
  if (fileSystem.attributes(node).kind !== 'directory') {
    fileSystem.remove(directory, Buffer.from(last))
    return
  }
  for (const entry of [...fileSystem.list(node, 0)])
    remove(fileSystem, `${path}/${entry.name.toString()}`)
  fileSystem.removeDirectory(directory, Buffer.from(last))
}
