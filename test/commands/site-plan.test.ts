// `netimage site plan`, as a person runs it.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, suite, test } from 'node:test'
import * as v from 'valibot'
import { removeTree } from '../../src/remove-tree.ts'
import { siteFile } from '../../src/site/database.ts'
import { createImageIndexes } from '../../src/roots/image-index.ts'
import { readRecord } from '../../src/roots/record.ts'
import { removeLayer } from '../../src/roots/store.ts'
import { layerOf } from '../../src/roots/stored-layer.ts'
import { imageIds, openSiteImage } from '../../src/site/images/site-image.ts'
import { openMachineLayerNow } from '../roots/support/open-layer.ts'
import { put } from '../roots/support/stored-layers.ts'
import { buildSystem, flagsFor, systems, writeSystems } from '../site/images/support/made-images.ts'
import { assertFailed, netimage, netimageJson, parseObject } from '../support/netimage.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const mac = (number: number) => `dc:a6:32:00:00:0${number}`

const planSchema = v.looseObject({
  digest: v.string(),
  isDone: v.boolean(),
  groups: v.array(
    v.looseObject({
      image: v.looseObject({ id: v.string(), label: v.string() }),
      waves: v.array(v.looseObject({ machines: v.array(v.string()) })),
      machines: v.array(v.looseObject({ machine: v.string(), change: v.string() })),
      kept: v.array(v.looseObject({ machine: v.string() })),
      changes: v.array(v.looseObject({ machines: v.array(v.string()) })),
    }),
  ),
})

/** Names of files that an image adds, and the machine as well. */
const added = Array.from({ length: 30 }, (_, at) => `added-${at + 10}`)

suite('netimage site plan', () => {
  let workspace: Workspace
  let state: string
  let [first, second] = ['', '']
  const site = (...args: string[]) => netimageJson(['site', ...args, '--state', state])

  before(async () => {
    workspace = makeWorkspace('site-plan')
    state = workspace.path('state')
    writeSystems(workspace)
    await buildSystem(workspace, 'first', workspace.path('out/first'))
    await buildSystem(workspace, 'second', workspace.path('out/second'))
    first = String((await site('add', workspace.path('out/first')))['id'])
    for (const number of [1, 2, 3]) await site('assign', mac(number), first)
    await site('name', mac(2), 'pi2')
  })
  after(() => workspace.remove())

  /** @returns the directory of the file */
  function write(text: string): string {
    writeFileSync(workspace.path('site.toml'), text)
    return workspace.directory
  }
  const plan = (...flags: string[]) =>
    netimage(['site', 'plan', '--state', state, ...flags], { cwd: workspace.directory })

  const lab = (system: string, more = '') => `
    [group.lab]
    system = "${system}"
    machines = ["pi1", "dc:a6:32:*"]
    waves = [["pi1"], { share = "25%", pause = true }, "rest"]
    ${more}
    [machine.pi1]
    mac = "${mac(1).toUpperCase()}"
  `

  test('shows what changes for each machine, and in which order', async () => {
    write(lab('./out/second'))
    const run = await plan('--quiet')
    assert.equal(run.status, 2, run.stderr)
    second = imageIds(state).find((id) => id !== first) ?? ''
    const lines = [
      `group lab: image ${second.slice(0, 12)} root (second), x86_64-linux`,
      `  3 machines from image ${first.slice(0, 12)} root (first): pi1, ${mac(3)}, pi2`,
      '    packages  0 in another version, 1 new, 1 gone, 0 built anew',
      /^ {4}bytes {5}adds 1\.2 KiB in 1 new store path; removes 1\.2 KiB in 1 store path$/,
      /^ {6}nixos-system-test-first without a version: gone, −1\.2 KiB$/,
      /^ {6}nixos-system-test-second without a version: new, \+1\.2 KiB$/,
      '    wave 1    pi1',
      `    wave 2    ${mac(3)}`,
      '              then it waits for a person',
      '    wave 3    pi2',
      '    limits    1 booting at once; 2 bad machines to halt; up within 10m in 3 tries, and for 2m; keeps 3 good generations',
      '    roll-out  begins: the first of the group',
      `    unseen    pi1 (never), ${mac(3)} (never), pi2 (never)`,
      `${mac(1)} is to be called pi1`,
      /^3 machines to change, 1 name to give, 1 roll-out to begin; plan [0-9a-f]{12}$/,
    ]
    const printed = run.stdout.trimEnd().split('\n')
    assert.equal(printed.length, lines.length, run.stdout)
    for (const [at, line] of lines.entries()) {
      if (typeof line === 'string') assert.equal(printed[at], line)
      else assert.match(printed[at] ?? '', line)
    }
  })

  test('gives the same plan as JSON, whatever names the image, and changes no machine', async () => {
    const status = await site('status')
    const digests = new Set<string>()
    for (const system of ['./out/second', second.slice(0, 12)]) {
      write(lab(system))
      const run = await plan('--json')
      assert.equal(run.status, 2, run.stderr)
      const { digest, groups } = v.parse(planSchema, JSON.parse(run.stdout))
      digests.add(digest)
      assert.equal(groups[0]?.image.id, second)
      assert.deepEqual(groups[0].changes[0]?.machines, [mac(1), mac(3), mac(2)])
    }
    assert.equal(digests.size, 1)
    assert.deepEqual(await site('status'), status)
  })

  test('shows which files stay because machine and image both have changed them, while the machine runs', async (context) => {
    const more =
      'echo pie > files/etc/name; for n in $(seq 10 39); do echo $n > files/added-$n; done'
    await buildSystem(workspace, 'first', workspace.path('out/changed'), false, more)
    const boot = async (id: string) => {
      const image = await openSiteImage(state, id)
      const index = createImageIndexes().open(image.rootImage, [])
      const { directory, system } = image
      const known = { directory, name: 'root', toplevel: system.toplevel, id }
      const layer = openMachineLayerNow({ state, machine: mac(1), image: known, index })
      let isOpen = true
      const close = async () => {
        if (!isOpen) return
        isOpen = false
        await layer.close()
        index.close()
        image.release()
      }
      return { system: layer.fileSystem, close }
    }
    const running = await boot(first)
    context.after(() => running.close())
    for (const name of ['etc/name', ...added]) put(running.system, name, 'own')
    write(lab('./out/changed'))
    const shown = await plan('--quiet')
    assert.equal(shown.status, 2, shown.stderr)
    const rows = shown.stdout.split('\n').filter((line) => /^ {4}kept|more file/.test(line))
    assert.equal(rows.length, 21, shown.stdout)
    assert.equal(rows[0], '    kept      /etc/sub/same (changed-both) on pi1')
    assert.equal(rows[1], '    kept      /added-10 (added-both) on pi1')
    assert.equal(rows[20], '              … and 11 more files: see --json')
    const printed = await plan('--json')
    const { groups } = v.parse(planSchema, JSON.parse(printed.stdout))
    const [group = assert.fail()] = groups

    // The truth: what the machine keeps when it boots the image.
    await running.close()
    const after = await boot(group.image.id)
    await after.close()
    const record = readRecord(layerOf(state, mac(1)).directory)
    assert.deepEqual(group.kept, [{ machine: mac(1), ...record?.kept }])
    await removeLayer(layerOf(state, mac(1)), assert.fail)
  })

  test('builds a system, and the file may be elsewhere and in another format', async () => {
    const { toplevel } = systems.second
    const directory = workspace.path('elsewhere')
    mkdirSync(directory)
    const file = join(directory, 'lab.ts')
    const group = { system: toplevel, machines: ['pi2'] }
    writeFileSync(file, `export default ${JSON.stringify({ group: { lab: group } })}`)
    const run = await plan('--json', '--file', file, ...flagsFor(workspace))
    assert.equal(run.status, 2, run.stderr)
    const [planned] = v.parse(planSchema, JSON.parse(run.stdout)).groups
    assert.partialDeepStrictEqual(planned, {
      image: { label: 'second', toplevel },
      waves: [{ machines: [mac(2)] }],
    })
    // Nothing is left of the image that was built.
    assert.ok(readdirSync(join(state, 'images')).every((name) => !name.startsWith('.')))
  })

  test('has nothing to do if all is as the file says', async () => {
    write(lab(first))
    await site('name', mac(1), 'pi1')
    assert.equal((await plan()).status, 2)
    await netimageJson(['site', 'apply', '--yes', '--state', state], { cwd: workspace.directory })
    const run = await plan()
    assert.equal(run.status, 0, run.stderr)
    assert.match(run.stdout, /\n {2}3 machines boot this already\n[^]*\nnothing to do\n$/)
  })

  test('tells all mistakes at once, before it builds anything', async () => {
    write(`
      ${lab('./out/second', 'halt = 3')}
      [group.other]
      systm = ".#other"
      machines = []
    `)
    const form = await plan('--json')
    assert.equal(form.status, 1)
    const { problems } = assertFailed(form, 'bad-site', { file: 'site.toml' }).details ?? {}
    assert.partialDeepStrictEqual(problems, [
      { field: 'group.lab.halt' },
      { field: 'group.other.system', message: 'it is missing' },
      { field: 'group.other.systm', message: 'there is no such key' },
    ])
    write(`
      ${lab('/nowhere')}
      [group.other]
      system = "nothing"
      machines = ["pi2", "pi7"]
    `)
    const meant = await plan()
    assert.equal(meant.status, 1)
    assert.equal(meant.stdout, '')
    const lines = meant.stderr.split('\n').filter((line) => /^ {2}\S/.test(line))
    assert.deepEqual(
      lines.map((line) => line.split(':')[0]?.trim()),
      ['group.other.machines.0', 'group.other.machines.1', 'group.other.system'],
    )
    write(lab('/nowhere'))
    const gone = await plan('--json')
    assert.equal(gone.status, 3)
    assert.match(assertFailed(gone, 'path-not-found').message, /^group\.lab\.system: \/nowhere /)
  })

  test('needs no site and makes none if nothing is to be added', async () => {
    write('')
    const none = workspace.path('none')
    const flags = ['site', 'plan', '--state', none, '--json']
    const run = await netimage(flags, { cwd: workspace.directory })
    assert.equal(run.status, 0, run.stderr)
    assert.partialDeepStrictEqual(parseObject(run.stdout), { isDone: true, groups: [] })
    // It is not read, because nobody named it.
    writeFileSync(workspace.path('out/site.js'), 'throw new Error()')
    const nowhere = await netimage(flags, { cwd: workspace.path('out') })
    assertFailed(nowhere, 'path-not-found', { file: workspace.path('out/site.toml') })
    assert.equal(existsSync(none), false)
  })

  test('tells if the site does not have the image of a machine any more', async () => {
    write(lab(second))
    removeTree(join(state, 'images', first))
    const run = await plan()
    assert.equal(run.status, 2, run.stderr)
    const line = `  3 machines from image ${first.slice(0, 12)}, which the site does not have any more: `
    assert.ok(run.stdout.includes(line), run.stdout)
  })

  test('is made without a machine whose row is broken, but not for it', async () => {
    const database = new DatabaseSync(siteFile(state))
    database.exec(`UPDATE machines SET life = '{"machine":1}' WHERE machine = '${mac(3)}'`)
    database.close()
    write(lab(second))
    assertFailed(await plan('--json'), 'bad-state', { file: siteFile(state) })
    write(`
      [group.lab]
      system = "${second}"
      machines = ["pi2"]
    `)
    const run = await plan()
    assert.equal(run.status, 2, run.stderr)
  })
})
