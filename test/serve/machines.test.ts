// The cost of all machines together, even of machines that do not exist.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { StatementSync, type SQLInputValue, type StatementResultingChanges } from 'node:sqlite'
import { mock, suite, test } from 'node:test'
import { openBootFile } from '../../src/protocols/boot-files.ts'
import type { FileSystem, NodeId } from '../../src/protocols/nfs/file-system.ts'
import type { Caller } from '../../src/protocols/rpc/program.ts'
import { findNode } from '../../src/roots/find-node.ts'
import { readRecord } from '../../src/roots/record.ts'
import { isInUse, withLayer } from '../../src/roots/store.ts'
import { listLayers } from '../../src/roots/stored-layer.ts'
import { verifyStoredLayer } from '../../src/roots/verify.ts'
import { readGoodNote } from '../../src/serve/boot-notes.ts'
import { watchDeclarations } from '../../src/serve/declared.ts'
import { machinesByImage } from '../../src/site/images/users.ts'
import { candidateOf } from '../../src/site/candidate.ts'
import { addImage } from '../../src/site/images/add-image.ts'
import { countRows } from '../roots/support/count-rows.ts'
import { plant } from '../site/publish/support/roots.ts'
import { assertError } from '../support/errors.ts'
import { waitUntil } from '../support/waiting.ts'
import { callerAt, callerLeaves, identitiesOf } from './support/identities.ts'
import { openMachines, rootOf } from './support/machines.ts'
import { addTo, sayGood } from './support/person.ts'
import { buildManyTo, buildOtherTo, buildTo } from './support/served-image.ts'
import { servedWorkspace } from './support/served-workspace.ts'

const maxOpen = 10
const file = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const

const { workspace, image } = await servedWorkspace('machines')

/** As on a full disk, no layer can be bound until this is restored. */
function fillForBindings() {
  /* oxlint-disable-next-line typescript/unbound-method -- called with `this` below */
  const run: (...values: SQLInputValue[]) => StatementResultingChanges = StatementSync.prototype.run
  const mocked = mock.method(
    StatementSync.prototype,
    'run',
    function (this: StatementSync, ...values: SQLInputValue[]) {
      if (this.sourceSQL.includes('INTO binding')) {
        throw Object.assign(new Error('database or disk is full'), { errcode: 13 })
      }
      return run.apply(this, values)
    },
  )
  return mocked.mock
}

suite('the machines of a server', () => {
  async function create(state: string, macs: Record<string, string> = {}) {
    const identities = identitiesOf(macs)
    const opened = await openMachines(workspace.path(state), [image], identities, { maxOpen })
    return { ...opened, identities }
  }

  test('take turns if more than can be open ask, and each finds the files that it wrote', async () => {
    await using created = await create('many')
    const { machines, errors } = created
    const [one, other] = ['10.0.9.1', '10.0.9.2']
    const { fileSystem } = await rootOf(created, one)
    fileSystem.create(fileSystem.root, Buffer.from('mine'), file)
    await fileSystem.stable()
    const before = descriptors()
    for (let count = 0; count < 60; count++) {
      assert.ok(await rootOf(created, `10.0.0.${count}`))
      // This layer is in use all the time, so it stays open.
      const again = await rootOf(created, other)
      if (count === 0) again.fileSystem.create(again.fileSystem.root, Buffer.from('its'), file)
      assert.ok(again.fileSystem.lookup(again.fileSystem.root, Buffer.from('its')))
      await new Promise((resolve) => setImmediate(resolve))
    }
    const more = descriptors() - before
    assert.ok(more < maxOpen * 8, `${more} descriptors`)
    await waitUntil(
      'it can be opened',
      () => machines.nfsMachineOf({ address: one, transport: 'tcp' }) !== 'busy',
    )
    const { fileSystem: back } = await rootOf(created, one)
    assert.ok(back.lookup(back.root, Buffer.from('mine')))
    assert.deepEqual(errors, [])
  })

  test('that nobody knows get no more layers than the server allows, until some are removed', async (t) => {
    const state = workspace.path('strangers')
    await using created = await openMachines(state, [image], identitiesOf({}), { most: 3 })
    const { machines, errors } = created
    const asks = (name: string) => machines.nfsMachineOf(callerAt(name), '/srv/test')
    const names = ['10.0.0.1', '10.0.0.2', '10.0.0.3']
    for (const name of names) assert.ok(await rootOf(created, name))
    for (const name of ['10.0.1.1', '10.0.1.2', '10.0.1.1']) {
      await waitUntil('it has begun its attempt', () => {
        assert.equal(asks(name), 'busy')
        return created.site.lifeOf(name).attempts.length > 0
      })
      await new Promise((resolve) => setImmediate(resolve))
      assert.equal(asks(name), 'busy')
    }
    assert.deepEqual(
      listLayers(state)
        .map(({ machine }) => machine)
        .sort(),
      names,
    )
    assert.deepEqual(
      errors.map(({ code }) => code),
      ['too-many-machines'],
    )
    // Those that have a layer get it again.
    machines.begins('10.0.0.1')
    assert.ok(await rootOf(created, '10.0.0.1'))
    machines.begins('10.0.0.2')
    await machines.whenClosed('10.0.0.2')
    rmSync(join(state, 'layers/10.0.0.2'), { recursive: true })
    const now = performance.now()
    t.mock.method(performance, 'now', () => now + 100_000)
    assert.ok(await rootOf(created, '10.0.1.2'))
    assert.equal(errors.length, 1)
  })

  test('get no boot file by their address while their names are not known', async () => {
    const identities = { ...identitiesOf({}), nameSoon: async () => undefined }
    await using created = await openMachines(workspace.path('unnamed'), [image], identities)
    const { machines, site } = created
    for (const protocol of ['tftp', 'http'] as const) {
      const door = { address: '10.0.0.7', protocol }
      const found = await openBootFile(machines.treesOf, door, 'boot.ipxe')
      assert.equal(found.kind, 'busy')
    }
    assert.equal(site.lifeOf('10.0.0.7').attempts.length, 0)
  })

  test('get no boot file of another one whose hardware address they name', async () => {
    const macs = { '10.0.0.2': 'dc:a6:32:00:00:02', '10.0.0.3': 'dc:a6:32:00:00:03' }
    await using created = await create('named', macs)
    const folder = '01-dc-a6-32-00-00-02'
    const own = join(workspace.path('named'), 'boot', 'dc-a6-32-00-00-02')
    mkdirSync(own, { recursive: true })
    writeFileSync(join(own, 'config.txt'), 'own')
    const ask = async (address: string) => {
      const door = { address, protocol: 'http' } as const
      const found = await openBootFile(created.machines.treesOf, door, `${folder}/config.txt`)
      if (found.kind === 'file') found.close()
      return found.kind
    }
    assert.equal(await ask('10.0.0.2'), 'file')
    assert.equal(await ask('10.0.0.3'), 'missing')
    // Behind a router, machines have no other hardware address than the one that they name.
    assert.equal(await ask('10.0.9.2'), 'file')
  })

  test('get no boot file of another one whose serial number they name, if the file of the site has it', async () => {
    const [pi, other] = ['dc:a6:32:00:00:02', 'dc:a6:32:00:00:03'] as const
    const state = workspace.path('serial')
    await using unfinished = new AsyncDisposableStack()
    const declared = new Map([[pi, { macs: [pi], serials: ['10000000aabbccdd'] }]])
    const { ownerOf } = watchDeclarations(() => declared, assert.ifError, unfinished)
    const identities = identitiesOf({ '10.0.0.2': pi, '10.0.0.3': other })
    await using created = await openMachines(state, [image], identities, { ownerOf })
    for (const serial of ['aabbccdd', 'aabbccee']) {
      mkdirSync(join(state, 'boot', serial), { recursive: true })
      writeFileSync(join(state, 'boot', serial, 'config.txt'), 'own')
    }
    const ask = async (address: string, serial: string) => {
      const door = { address, protocol: 'tftp' } as const
      const found = await openBootFile(created.machines.treesOf, door, `${serial}/config.txt`)
      if (found.kind === 'file') found.close()
      return found.kind
    }
    assert.equal(await ask('10.0.0.2', 'aabbccdd'), 'file')
    assert.equal(await ask('10.0.0.3', 'aabbccdd'), 'missing')
    // Nobody has said whose serial number this is.
    assert.equal(await ask('10.0.0.3', 'aabbccee'), 'file')
    // Behind a router, a machine has no hardware address that the server could compare.
    assert.equal(await ask('10.0.9.2', 'aabbccdd'), 'file')
  })

  test('wait for their roots while the server prepares them, and this is told once', async () => {
    const prepared = Promise.withResolvers<void>()
    let isPrepared = false
    await using created = await openMachines(
      workspace.path('waits'),
      [image],
      identitiesOf({}),
      { maxOpen },
      false,
      () => () => (isPrepared ? undefined : prepared.promise),
    )
    const { machines, gate, site } = created
    const waitsFrom = () => site.lifeOf('10.0.0.7').waitsFrom
    const nextTurn = () => new Promise((resolve) => setImmediate(resolve))
    await gate.enter('10.0.0.7', {
      ...{ kind: 'nfs', step: 'mount', path: '/srv/test', address: '10.0.0.7' },
    })
    const asks = () => machines.nfsMachineOf({ address: '10.0.0.7', transport: 'tcp' })
    assert.equal(waitsFrom(), undefined)
    assert.equal(asks(), 'busy')
    await waitUntil('it waits', () => waitsFrom() !== undefined)
    const from = waitsFrom()
    assert.equal(asks(), 'busy')
    await nextTurn()
    assert.equal(waitsFrom(), from)
    isPrepared = true
    prepared.resolve()
    await waitUntil('it waits no more', () => waitsFrom() === undefined)
    assert.ok(await rootOf(created, '10.0.0.7'))
    await nextTurn()
    assert.equal(waitsFrom(), undefined)
  })

  test('are answered while the layer of one that has very many names is bound for its boot', async () => {
    await using created = await create('pieces')
    const [many, other] = ['10.0.0.7', '10.0.0.8']
    const { fileSystem } = await rootOf(created, many)
    const store = findNode(fileSystem, ['nix', 'store']) ?? assert.fail()
    const path = [...fileSystem.list(store, 0)].find(
      ({ node }) => fileSystem.attributes(node).kind === 'directory',
    )
    const directory = path?.node ?? assert.fail()
    for (let number = 0; number < 3000;) {
      fileSystem.together(() => {
        for (const end = number + 500; number < end; number++) {
          fileSystem.create(directory, Buffer.from(`n${number}`), file)
        }
      })
    }
    await fileSystem.stable()
    const { fileSystem: others } = await rootOf(created, other)
    await created.boots(many)
    // So each piece of the binding is one step, however fast this computer is.
    let now = 0
    const clock = mock.method(performance, 'now', () => (now += 5))
    const rows = countRows()
    /** How many rows of databases were read in each turn. */
    const turns: number[] = []
    const asks = () => created.machines.nfsMachineOf({ address: many, transport: 'tcp' })
    const isBinding = () => created.site.lifeOf(many).waitsFrom !== undefined
    while (asks() === 'busy') {
      // Not while the root from before is closed.
      if (isBinding()) assert.ok(others.attributes(others.root).links > 0)
      await new Promise((resolve) => setImmediate(resolve))
      turns.push(rows.take())
    }
    rows.stop()
    clock.mock.restore()
    assert.ok(turns.length > 1000, String(turns.length))
    // In the turn in which the binding begins, more of it is done.
    assert.equal(turns.filter((read) => read > 100).length, 1)
    const root = await rootOf(created, many)
    assert.equal(root.fileSystem.lookup(directory, Buffer.from('n1')), undefined)
    assert.deepEqual(created.errors, [])
  })

  test('boot with their layers as they are if the disk has no room to bind them, and stay so', async () => {
    await using created = await create('full')
    const { errors } = created
    const name = '10.0.0.7'
    const made = Buffer.from('made')
    const storePath = (system: FileSystem) => {
      const store = findNode(system, ['nix', 'store']) ?? assert.fail()
      const isDirectory = (node: NodeId) => system.attributes(node).kind === 'directory'
      return [...system.list(store, 0)].find(({ node }) => isDirectory(node))?.node ?? assert.fail()
    }
    const has = ({ fileSystem }: { fileSystem: FileSystem }) =>
      fileSystem.lookup(storePath(fileSystem), made) !== undefined
    const first = await rootOf(created, name)
    first.fileSystem.create(storePath(first.fileSystem), made, file)
    await first.fileSystem.stable()

    await created.boots(name)
    const full = fillForBindings()
    assert.ok(has(await rootOf(created, name)))
    const told = () => errors.map(({ code, message }) => `${code}: ${message}`).join('\n')
    assert.match(told(), /^disk-full: 10.0.0.7 boots with its layer as it was .* disk is full$/)
    // There is room again, but the machine runs.
    full.restore()
    created.identities.leaves(callerLeaves(name))
    created.machines.closeUnused(Infinity)
    await waitUntil('it can be opened', () => {
      return created.machines.nfsMachineOf({ address: name, transport: 'tcp' }) !== 'busy'
    })
    assert.ok(has(await rootOf(created, name)))
    await created.boots(name)
    assert.ok(!has(await rootOf(created, name)))
    assert.equal(errors.length, 1)

    // Not with the root of another generation.
    const other = workspace.path('other-full')
    await buildTo(workspace, other, '--nfs-root', '127.0.0.1:/srv/other,v3')
    const { image: added } = await addImage(workspace.path('full'), other)
    await created.site.assign(name, await candidateOf(added), Date.now(), 'person')
    added.release()
    await created.boots(name)
    const again = fillForBindings()
    const asks = () => created.machines.nfsMachineOf(callerAt(name), '/srv/other')
    await waitUntil('it is told', () => asks() === 'busy' && errors.length > 1)
    assert.equal(asks(), 'busy')
    assert.match(told(), /\ndisk-full: could not open the layer .* disk is full$/)
    again.restore()
    assert.equal((await rootOf(created, name)).path, '/srv/other')
  })

  test('have their layers closed when they are off, and opened again when they come back', async () => {
    await using created = await create('unused', { '10.0.0.7': '52:54:00:00:00:07' })
    const { machines, identities, errors } = created
    const { fileSystem } = await rootOf(created, '10.0.0.7')
    fileSystem.create(fileSystem.root, Buffer.from('kept'), file)
    await rootOf(created, '10.0.0.8')
    const inUse = () => listLayers(workspace.path('unused')).filter(isInUse).length
    machines.closeUnused(0)
    machines.closeUnused(Infinity)
    assert.equal(inUse(), 2)
    identities.leaves(callerLeaves('10.0.0.7'))
    machines.closeUnused(Infinity)
    await waitUntil('the layer is closed', () => inUse() === 1)
    // Its next connection.
    const caller: Caller = { address: '10.0.0.7', transport: 'tcp' }
    await waitUntil('it can be opened', () => machines.nfsMachineOf(caller) !== 'busy')
    const { fileSystem: back } = await rootOf(created, '10.0.0.7', caller)
    assert.ok(back.lookup(back.root, Buffer.from('kept')))
    assert.deepEqual(errors, [])
  })

  test('keep their layer if they boot another generation', async () => {
    await using created = await create('updated')
    const name = '10.0.0.7'
    const { fileSystem } = await rootOf(created, name)
    fileSystem.create(fileSystem.root, Buffer.from('mine'), file)
    const other = workspace.path('other')
    await buildTo(workspace, other, '--nfs-root', '127.0.0.1:/srv/other,v3')
    const added = await addTo(workspace.path('updated'), other)
    await created.site.assign(name, added, Date.now(), 'person')
    assert.equal((await rootOf(created, name)).path, '/srv/test')
    await created.boots(name)
    const next = await rootOf(created, name)
    assert.equal(next.path, '/srv/other')
    assert.ok(next.fileSystem.lookup(next.fileSystem.root, Buffer.from('mine')))
    assert.deepEqual(created.errors, [])
  })

  test('boot another generation with a mount of its path if their boot files come from elsewhere', async () => {
    await using created = await create('elsewhere')
    const { site, identities, isUp } = created
    const [name, other] = ['10.0.0.7', workspace.path('other')]
    await rootOf(created, name)
    await buildTo(workspace, other, '--force', '--nfs-root', '127.0.0.1:/srv/other,v3')
    await site.assign(name, await addTo(workspace.path('elsewhere'), other), Date.now(), 'person')
    isUp(name)
    identities.leaves(callerLeaves(name))
    // The machine uses a part of the root that it has.
    const { path } = await rootOf(created, name, undefined, '/srv/test/var')
    assert.deepEqual([path, site.lifeOf(name).attempts.length], ['/srv/test', 1])
    identities.leaves(callerLeaves(name))
    isUp(name)
    let mounted: string | undefined
    await waitUntil('it has the root that it mounts', async () => {
      mounted = (await rootOf(created, name, undefined, '/srv/other')).path
      return mounted === '/srv/other'
    })
    assert.deepEqual(
      site.lifeOf(name).attempts.map(({ generation }) => generation),
      [1, 2],
    )
    assert.deepEqual(created.errors, [])
  })

  test('begin an attempt without what the boot before said to the server', async () => {
    await using created = await create('noted')
    const name = '10.0.0.7'
    const note = JSON.stringify({ version: 1, bootId: randomUUID(), toplevel: '/nix/store/x' })
    const { fileSystem } = await rootOf(created, name)
    for (const each of ['blessed', 'failed', 'publish/request']) {
      plant(fileSystem, `/nix/var/netimage/${each}`, { file: note })
    }
    assert.ok(readGoodNote(fileSystem))
    await created.boots(name)
    const { fileSystem: next } = await rootOf(created, name)
    const namesIn = (...directory: string[]) => {
      const node = findNode(next, directory) ?? assert.fail()
      return [...next.list(node, 0)].map((entry) => entry.name.toString())
    }
    assert.deepEqual(namesIn('nix', 'var', 'netimage'), ['publish'])
    assert.deepEqual(namesIn('nix', 'var', 'netimage', 'publish'), [])
    assert.deepEqual(created.errors, [])
  })

  for (const [what, endsBefore] of [
    ['and not the old one if the reset fails at first', false],
    ['also if the server ends before the reset', true],
  ] as const) {
    test(`get an empty layer at each boot if they are ephemeral, ${what}`, async () => {
      const state = workspace.path(`ephemeral-${endsBefore}`)
      const name = '10.0.0.7'
      const open = () => openMachines(state, [image], identitiesOf({}), { maxOpen }, true)
      const [kept, sooner] = [Buffer.from('kept'), Buffer.from('sooner')]
      let created = await open()
      try {
        const { fileSystem } = await rootOf(created, name)
        fileSystem.create(fileSystem.root, kept, file)
        await fileSystem.stable()
        await created.boots(name)
        if (endsBefore) {
          await created[Symbol.asyncDispose]()
          created = await open()
        } else {
          await waitUntil('the layer is closed', () => !listLayers(state).some(isInUse))
          const [layer] = listLayers(state)
          assert.ok(layer)
          await withLayer(layer, async () => {
            const asked = { address: name, transport: 'tcp' } as const
            const { machines, errors } = created
            await waitUntil('an error is told', () => {
              assert.equal(machines.nfsMachineOf(asked, '/srv/test'), 'busy')
              return errors.length > 0
            })
            assertError(errors[0], 'in-use', { file: layer.directory })
          })
        }
        const { fileSystem: next } = await rootOf(created, name)
        assert.equal(next.lookup(next.root, kept), undefined)
        next.create(next.root, sooner, file)
        await next.stable()
        // The server starts again in the same boot.
        await created[Symbol.asyncDispose]()
        created = await open()
        const { fileSystem: again } = await rootOf(created, name)
        assert.ok(again.lookup(again.root, sooner))
      } finally {
        await created[Symbol.asyncDispose]()
      }
    })
  }

  test('get an empty layer once at each boot if they are ephemeral, also if it is bound and its image is looked at in pieces', async () => {
    const image = workspace.path('many-outside')
    const makeMany = 'mkdir -p ./files/many/{1..1400}'
    const flags = ['--nfs-root', '127.0.0.1:/srv/test,v3', '--populate-root-commands', makeMany]
    const built = await buildTo(workspace, image, ...flags)
    assert.equal(built.status, 0, built.stderr)
    const state = workspace.path('ephemeral-pieces')
    await using created = await openMachines(state, [image], identitiesOf({}), { maxOpen }, true)
    const name = '10.0.0.7'
    const boots = async () => {
      const names = new Set<string>()
      await waitUntil('the root is open', () => {
        const caller = { address: name, transport: 'tcp' } as const
        const isOpen = created.machines.nfsMachineOf(caller, '/srv/test') !== 'busy'
        const [layer] = listLayers(state)
        const record = layer && readRecord(layer.directory)
        if (record) names.add(record.name)
        assert.ok(names.size < 4, 'the layer is reset again and again')
        return isOpen
      })
      return (await rootOf(created, name)).fileSystem
    }
    const fileSystem = await boots()
    fileSystem.create(fileSystem.root, Buffer.from('kept'), file)
    await fileSystem.stable()
    await created.boots(name)
    const next = await boots()
    assert.equal(next.lookup(next.root, Buffer.from('kept')), undefined)
    assert.ok(findNode(next, ['many', '700']))
    assert.deepEqual(created.errors, [])
  })

  test('are told to wait while files are copied for a boot, and others are served meanwhile', async () => {
    const image = workspace.path('many-files')
    const built = await buildManyTo(workspace, image, '--nfs-root', '127.0.0.1:/srv/test,v3')
    assert.equal(built.status, 0, built.stderr)
    const state = workspace.path('copied')
    await using created = await openMachines(state, [image], identitiesOf({}))
    const name = '10.0.0.7'
    const { fileSystem } = await rootOf(created, name)
    const store = storeOf(fileSystem)
    const paths = [...namesInStore(fileSystem).keys()]
    const mine = fileSystem.create(store, Buffer.from('mine'), { ...file, kind: 'directory' })
    for (const path of paths) fileSystem.rename(store, Buffer.from(path), mine, Buffer.from(path))
    await created.boots(name)
    const caller: Caller = { address: name, transport: 'tcp' }
    let [copies, turns] = [0, 0]
    let startsAgain: Promise<void> | undefined
    while (created.machines.nfsMachineOf(caller) === 'busy') {
      const made = copiesIn(state).length
      assert.ok(made <= copies + 1, `${made} copies after ${copies}`)
      if (made !== copies) turns++
      copies = made
      // The machine starts again meanwhile. What was copied is not copied again.
      if (turns === 5) startsAgain ??= created.boots(name)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await (startsAgain ?? assert.fail())
    assert.ok(turns > 10, String(turns))
    const { fileSystem: next } = await rootOf(created, name)
    const again = findNode(next, ['nix', 'store', 'mine']) ?? assert.fail()
    const inMine = [...next.list(again, 0)].map(({ name: each }) => each.toString())
    assert.deepEqual(inMine.sort(), paths.sort())
    assert.deepEqual([...namesInStore(next).keys()].sort(), ['mine', ...paths].sort())
    assert.deepEqual([copiesIn(state), created.errors], [[], []])
  })

  test('leave a layer that can be verified with the images of all generations that they keep', async () => {
    await using created = await create('verified')
    const name = '10.0.0.7'
    const { fileSystem: before } = await rootOf(created, name)
    const paths = namesInStore(before)
    const image = workspace.path('other-system')
    await buildOtherTo(workspace, image, '--nfs-root', '127.0.0.1:/srv/other,v3')
    const state = workspace.path('verified')
    const added = await addTo(state, image)
    // So the machine keeps it.
    const generation = sayGood(state, name)
    await created.site.assign(name, added, Date.now(), 'person')
    await created.boots(name)
    const { fileSystem } = await rootOf(created, name)
    const kept = namesInStore(fileSystem)
    assert.deepEqual(
      [...paths.keys()].filter((path) => !kept.has(path)),
      [],
    )
    assert.ok(kept.size > paths.size)
    // The machine's garbage collector hides what only the image from before has.
    const [hidden = ''] = paths.keys()
    const store = storeOf(fileSystem)
    fileSystem.rename(store, Buffer.from(hidden), store, Buffer.from('trash'))
    await created.machines.close()
    const [layer] = listLayers(state)
    assert.ok(layer)
    assert.deepEqual((await verifyStoredLayer(layer)).problems, [])
    const ids = machinesByImage(state, assert.fail)
    assert.deepEqual(new Set(ids.keys()), new Set([added.image, generation.image]))
  })

  test('get no layer by a datagram from an address that no machine has', async () => {
    await using created = await create('datagrams', { '10.0.0.7': '52:54:00:00:00:07' })
    const { machines } = created
    assert.equal(machines.nfsMachineOf({ address: '10.0.0.8', transport: 'udp' }), undefined)
    assert.ok(!existsSync(workspace.path('datagrams', 'layers')))
    // The hardware address is known. But somebody else may have sent the datagram.
    const datagram = { address: '10.0.0.7', transport: 'udp' } as const
    machines.nfsMachineOf(datagram, '/srv/test')
    assert.ok(!created.gate.hasAttempt('52:54:00:00:00:07'))
    await rootOf(created, '10.0.0.7')
    await rootOf(created, '10.0.0.7', datagram)
    await rootOf(created, '10.0.0.8')
    const made = readdirSync(workspace.path('datagrams', 'layers')).toSorted()
    assert.deepEqual(made, ['10.0.0.8', '52-54-00-00-00-07'])
  })

  test('wait while their root cannot be opened, which is reported once', async () => {
    await using created = await create('locked')
    const { machines, errors } = created
    assert.ok(await rootOf(created, '10.0.0.7'))
    machines.closeUnused(0)
    await created.boots('10.0.0.7')
    const [layer] = listLayers(workspace.path('locked'))
    assert.ok(layer)
    await withLayer(layer, async () => {
      for (let count = 0; count < 100; count++) {
        assert.equal(machines.nfsMachineOf({ address: '10.0.0.7', transport: 'tcp' }), 'busy')
      }
      assert.ok(await rootOf(created, '10.0.0.8'))
    })
    assert.equal(errors.length, 1)
    assertError(errors[0], 'in-use', { file: layer.directory })
    await waitUntil(
      'it can be opened',
      () => machines.nfsMachineOf({ address: '10.0.0.7', transport: 'tcp' }) !== 'busy',
    )
    assert.ok(await rootOf(created, '10.0.0.7'))
  })

  test('are told to wait if they ask while their layer is being closed for a new boot', async () => {
    await using created = await create('boots')
    const { machines } = created
    const { fileSystem } = await rootOf(created, '10.0.0.7')
    fileSystem.create(fileSystem.root, Buffer.from('mine'), file)
    const boots = created.boots('10.0.0.7')
    assert.equal(machines.nfsMachineOf({ address: '10.0.0.7', transport: 'tcp' }), 'busy')
    await boots
    const { fileSystem: again } = await rootOf(created, '10.0.0.7')
    assert.ok(again.lookup(again.root, Buffer.from('mine')))
  })
})

function storeOf(system: FileSystem): NodeId {
  const nix = system.lookup(system.root, Buffer.from('nix')) ?? 0
  return system.lookup(nix, Buffer.from('store')) ?? 0
}

function namesInStore(system: FileSystem): Map<string, NodeId> {
  const all = [...system.list(storeOf(system), 0)]
  return new Map(all.map(({ name, node }) => [name.toString(), node]))
}

/** Copies that are made for a boot. */
function copiesIn(state: string): string[] {
  return readdirSync(state, { recursive: true, encoding: 'utf8' }).filter((path) =>
    basename(path).startsWith('copy-bind-'),
  )
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length
}
