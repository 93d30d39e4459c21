// The commands for the images of a site, as a person runs them.

import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { openSiteImage } from '../../src/site/images/site-image.ts'
import { ordinaryUser } from '../support/namespace.ts'
import { assertFailed, netimage, netimageJson, parseObject } from '../support/netimage.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'
import {
  buildSystem,
  flagsFor,
  pathsOfEach,
  systems,
  writeSystems,
} from '../site/images/support/made-images.ts'

suite('netimage site', () => {
  let workspace: Workspace
  let image: string
  let state: string
  const site = (...args: string[]) => netimageJson(['site', ...args, '--state', state])
  const fails = (...args: string[]) => netimage(['site', ...args, '--state', state, '--json'])

  before(async () => {
    workspace = makeWorkspace('site-commands')
    state = workspace.path('state')
    writeSystems(workspace)
    image = await buildSystem(workspace, 'first', workspace.image)
  })
  after(() => workspace.remove())

  test('adds an image, and a system that it builds first', async () => {
    assert.deepEqual(await site('images'), { images: [] })
    const added = await site('add', image)
    assert.partialDeepStrictEqual(added, {
      ...{ name: 'root', label: 'first', isNew: true, addedStorePaths: pathsOfEach },
    })
    assert.equal(statSync(state).mode & 0o777, 0o700)
    const { toplevel } = systems.second
    const built = await site('add', toplevel, ...flagsFor(workspace))
    assert.partialDeepStrictEqual(built, { toplevel, isNew: true, addedStorePaths: 1 })
    const { images } = await site('images')
    assert.partialDeepStrictEqual(images, [
      { id: added['id'], label: 'first', storePaths: pathsOfEach, keptBy: [] },
      { id: built['id'], toplevel, platform: 'x86_64-linux' },
    ])
    const repaired = await site('add', image, '--repair')
    assert.partialDeepStrictEqual(repaired, { isRepaired: false, repairedStorePaths: 0 })
    // Nothing is left of the image that was built.
    assert.deepEqual(readdirSync(join(state, 'images')).length, 2)
    const { stdout } = await netimage(['site', 'images', '--state', state])
    assert.match(stdout, new RegExp(`^${String(added['id']).slice(0, 12)}  root  first  .*\\n`))
  })

  test('builds no system as root for the server of another user, and says how to add it', async (context) => {
    if (process.geteuid?.() !== 0) return context.skip('only root becomes another user')
    chmodSync(workspace.directory, 0o755)
    const ofOther = workspace.path('state-of-other')
    mkdirSync(ofOther, { mode: 0o700 })
    chownSync(ofOther, ordinaryUser.uid, ordinaryUser.gid)
    const { toplevel } = systems.second
    const flags = flagsFor(workspace)
    const pool = flags.indexOf('--pool')
    const run = await netimage([
      ...['site', 'add', toplevel, '--state', ofOther, '--json'],
      ...flags.toSpliced(pool, pool === -1 ? 0 : 2),
    ])
    const { hint = '' } = assertFailed(run, 'not-allowed')
    const [command = '', second] = [...hint.matchAll(/netimage [^,]*/g)].map(([match]) => match)
    assert.equal(second, 'netimage site add DIR')
    const output = workspace.path('for-other')
    const words = command.replace('DIR', output).split(' ').slice(1)
    const built = await netimage([...words, ...flags])
    assert.equal(built.status, 0, built.stderr)
    const added = await netimageJson(['site', 'add', output, '--state', ofOther])
    assert.partialDeepStrictEqual(added, { toplevel, isNew: true })
    const { uid } = statSync(join(ofOther, 'images', String(added['id'])))
    assert.equal(uid, ordinaryUser.uid)
  })

  test('removes the images that nothing keeps', async () => {
    const [first, second] = readIds(await site('images'))
    const held = await openSiteImage(state, second ?? '')
    try {
      const refused = assertFailed(await fails('gc', '--keep', 'other'), 'path-not-found')
      assert.match(refused.hint ?? '', /netimage site images/)
      assertFailed(await fails('gc', '--keep', ''), 'path-not-found')
      const kept = await site('gc', '--keep', first?.slice(0, 12) ?? '')
      assert.deepEqual(kept, {
        ...{ removedImages: [], inUse: [second], removedStorePaths: 0 },
        ...{ freedBytes: 0, mayShareBlocks: false },
      })
    } finally {
      held.release()
    }
    const kept = await site('gc', '--keep', first?.slice(0, 12) ?? '')
    const removed = { removedImages: [second], inUse: [], removedStorePaths: 1 }
    assert.partialDeepStrictEqual(kept, removed)
    assert.deepEqual(readIds(await site('images')), [first])
    const { stdout } = await netimage(['site', 'log', '--json', '--state', state])
    const rows = stdout.trimEnd().split('\n').map(parseObject)
    const freed = rows.pop() ?? {}
    const { freedBytes, mayShareBlocks } = kept
    assert.partialDeepStrictEqual(freed, {
      ...{ kind: 'freed', storePaths: 1, freedBytes, mayShareBlocks },
    })
    assert.match(String(freed['says']), /^removed 1 store path, freed (up to )?\d/)
    assert.deepEqual(
      rows.map(({ says }) => says),
      [
        `added image ${first?.slice(0, 12)} (root)`,
        `added image ${second?.slice(0, 12)} (nixos-net-image-second-x86_64-linux)`,
        `removed image ${second?.slice(0, 12)}`,
      ],
    )
  })

  test('assigns an image to a machine, and keeps it then', async () => {
    const [image = ''] = readIds(await site('images'))
    const mac = '02:00:00:00:00:01'
    assert.partialDeepStrictEqual(await site('assign', mac, 'root'), {
      ...{ machine: mac, next: 1 },
      generation: { image, toplevel: systems.first.toplevel, verdict: 'trial' },
    })
    assert.partialDeepStrictEqual(await site('gc'), { removedImages: [] })
    await site('name', mac, 'pi1')
    const listed = await netimage(['site', 'images', '--state', state])
    assert.match(listed.stdout, / {2}kept by pi1\n$/)
    const { stdout } = await netimage(['site', 'log', mac, '--state', state])
    assert.match(
      stdout,
      new RegExp(`pi1: assigned image ${image.slice(0, 12)} \\(root\\) as generation 1\n`),
    )
    await site('bad', mac)
    assertFailed(await fails('assign', mac, image), 'bad-generation', { actual: 1 })
  })

  test('removes nothing if it is not known which images a layer needs', async () => {
    const machine = '10.0.0.7'
    const layer = join(state, 'layers', machine, 'root')
    const record = join(layer, 'record.json')
    mkdirSync(layer, { recursive: true, mode: 0o700 })
    const before = readIds(await site('images'))
    for (const text of ['{"format":99,"writtenBy":"netimage 9.0.0"}', '{']) {
      writeFileSync(record, text)
      const { message } = assertFailed(await fails('gc'), 'bad-state', { file: record })
      assert.match(message, /^no image was removed, .* the layer of 10\.0\.0\.7 /)
      const { images, broken } = await site('images')
      assert.deepEqual(readIds({ images }), before)
      assert.partialDeepStrictEqual(broken, [{ code: 'bad-state', details: { file: record } }])
    }
    await netimageJson(['layers', 'remove', machine, '--state', state])
    assert.partialDeepStrictEqual(await site('gc'), { removedImages: [] })
  })

  test('tells an image whose manifest has changed, and removes nothing', async () => {
    const [id = ''] = readIds(await site('images'))
    const file = join(state, 'images', id, 'nix-support/net-image.json')
    writeFileSync(file, '{}')
    const { images, broken } = await site('images')
    assert.deepEqual(images, [])
    assert.partialDeepStrictEqual(broken, [{ code: 'image-damaged', details: { file } }])
    const before = readdirSync(join(state, 'store'))
    assertFailed(await fails('gc', '--keep', 'root'), 'path-not-found')
    assert.deepEqual(readdirSync(join(state, 'store')), before)
  })

  test('refuses what is no image and no system', async () => {
    assertFailed(await fails('add', workspace.path('nothing')), 'path-not-found')
    const archive = workspace.path('out/archive')
    const build = ['build', systems.first.toplevel, '-o', archive, '--format', 'tar']
    const run = await netimage([...build, ...flagsFor(workspace), '--json'])
    assert.equal(run.status, 0, run.stderr)
    assert.equal(parseObject(run.stdout)['image'], archive)
    assertFailed(await fails('add', archive), 'bad-option')
  })

  test('refuses an image whose root the server cannot serve', async () => {
    const newer = workspace.path('out/newer')
    const build = ['build', systems.first.toplevel, '-o', newer, '--nfs-root', '10.0.0.5:/srv,v4.2']
    const run = await netimage([...build, ...flagsFor(workspace)])
    assert.equal(run.status, 0, run.stderr)
    assertFailed(await fails('add', newer), 'bad-option')
  })
})

function readIds({ images }: Record<string, unknown>): string[] {
  assert.ok(Array.isArray(images))
  return images.map((image: { id: string }) => image.id)
}
