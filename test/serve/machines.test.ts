// The cost of all machines together, even of machines that do not exist.

import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { after, before, suite, test } from 'node:test'
import type { Caller } from '../../src/protocols/rpc/program.ts'
import { isInUse, withLayer } from '../../src/roots/store.ts'
import { listLayers } from '../../src/roots/stored-layer.ts'
import { createMachines, type Machines } from '../../src/serve/machines.ts'
import type { NfsMachine } from '../../src/protocols/nfs/machine.ts'
import type { ServedImage } from '../../src/serve/served-image.ts'
import type { NetimageError } from '../../src/errors.ts'
import { assertError } from '../support/errors.ts'
import { waitUntil } from '../support/waiting.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'
import { callerAt, callerLeaves, identitiesOf } from './support/identities.ts'
import { buildServedImage, openBuiltImage } from './support/served-image.ts'

const maxOpen = 10
const file = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const

suite('the machines of a server', () => {
  let workspace: Workspace
  let image: ServedImage
  before(async () => {
    workspace = makeWorkspace('machines')
    const built = await buildServedImage(workspace, '127.0.0.1:/srv/test,v3')
    image = await openBuiltImage(workspace.path('site'), built)
  })
  after(() => workspace.remove())

  function create(state: string, macs: Record<string, string> = {}) {
    const errors: NetimageError[] = []
    const identities = identitiesOf(macs)
    const machines = createMachines({
      ...{ images: [image], state: workspace.path(state), identities, ephemeral: false },
      onError: (error) => errors.push(error),
      maxOpen,
    })
    return { machines, identities, errors, [Symbol.asyncDispose]: () => machines.close() }
  }

  test('take turns if more than can be open ask, and each finds the files that it wrote', async () => {
    await using created = create('many')
    const { machines, errors } = created
    const [one, other] = ['10.0.9.1', '10.0.9.2']
    const { fileSystem } = rootOf(machines, one)
    fileSystem.create(fileSystem.root, Buffer.from('mine'), file)
    await fileSystem.stable()
    const before = descriptors()
    for (let count = 0; count < 60; count++) {
      assert.ok(rootOf(machines, `10.0.0.${count}`))
      // This layer is in use all the time, so it stays open.
      const again = rootOf(machines, other)
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
    const back = rootOf(machines, one).fileSystem
    assert.ok(back.lookup(back.root, Buffer.from('mine')))
    assert.deepEqual(errors, [])
  })

  test('have their layers closed when they are off, and opened again when they come back', async () => {
    await using created = create('unused', { '10.0.0.7': '52:54:00:00:00:07' })
    const { machines, identities, errors } = created
    const { fileSystem } = rootOf(machines, '10.0.0.7')
    fileSystem.create(fileSystem.root, Buffer.from('kept'), file)
    rootOf(machines, '10.0.0.8')
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
    const back = rootOf(machines, '10.0.0.7', caller).fileSystem
    assert.ok(back.lookup(back.root, Buffer.from('kept')))
    assert.deepEqual(errors, [])
  })

  test('get the image for a Raspberry Pi if they are one, although it calls itself a BIOS', () => {
    const loaders = (raspberryPi: boolean) => ({ ...image.loaders, raspberryPi })
    const pc = { ...image, directory: '/pc', platform: 'x86_64-linux', loaders: loaders(false) }
    const pi = { ...image, directory: '/pi', platform: 'aarch64-linux', loaders: loaders(true) }
    const arm = { ...pi, directory: '/arm', loaders: loaders(false) }
    for (const images of [
      [pc, pi],
      [pi, pc],
      [pc, arm],
    ]) {
      const machines = createMachines({
        ...{ images, state: workspace.path('none'), identities: identitiesOf({}) },
        ephemeral: false,
        onError: () => {},
      })
      machines.learnProcessor('dc:a6:32:00:00:01', 'raspberry-pi')
      machines.learnProcessor('52:54:00:00:00:01', 0)
      machines.learnProcessor('52:54:00:00:00:02', 11)
      const platforms = ['dc:a6:32:00:00:01', '52:54:00:00:00:01', '52:54:00:00:00:02'].map(
        (mac) => machines.imageOf(mac).platform,
      )
      assert.deepEqual(platforms, ['aarch64-linux', 'x86_64-linux', 'aarch64-linux'])
    }
  })

  test('keep their layer if they boot another image, and lose their root until then', async () => {
    const caller: Caller = { address: '10.0.0.7', transport: 'tcp' }
    const other = {
      ...image,
      ...{ rootPath: '/srv/other', platform: 'aarch64-linux' },
      index: { ...image.index, identity: 'f'.repeat(64) },
    }
    const createWith = (...images: ServedImage[]) => {
      const machines = createMachines({
        ...{ images, state: workspace.path('updated'), identities: identitiesOf({}) },
        ephemeral: false,
        onError: assert.ifError,
      })
      return { machines, [Symbol.asyncDispose]: () => machines.close() }
    }
    {
      await using created = createWith(image)
      const { fileSystem } = rootOf(created.machines, '10.0.0.7')
      fileSystem.create(fileSystem.root, Buffer.from('mine'), file)
    }
    const finds = (machines: Machines, path?: string) => {
      const machine = machines.nfsMachineOf(caller, path)
      assert.ok(typeof machine === 'object')
      const [root, ...others] = machine.exports
      assert.deepEqual(others, [])
      const { fileSystem } = root ?? {}
      assert.ok(!fileSystem || fileSystem.lookup(fileSystem.root, Buffer.from('mine')))
      return root?.path
    }
    {
      await using created = createWith(other)
      assert.equal(finds(created.machines), undefined)
      await created.machines.boots('10.0.0.7')
      assert.equal(finds(created.machines), '/srv/other')
    }
    // The processor is not known, so the path that the machine mounts tells the image.
    await using both = createWith(image, other)
    assert.equal(finds(both.machines), '/srv/other')
    const mount = (path: string) => both.machines.nfsMachineOf(caller, path)
    assert.equal(mount(image.rootPath), 'busy')
    await waitUntil('the layer is closed', () => mount(image.rootPath) !== 'busy')
    assert.equal(finds(both.machines), image.rootPath)
  })

  test('get no layer by a datagram from an address that no machine has', async () => {
    await using created = create('datagrams', { '10.0.0.7': '52:54:00:00:00:07' })
    const { machines } = created
    assert.equal(machines.nfsMachineOf({ address: '10.0.0.8', transport: 'udp' }), undefined)
    assert.ok(!existsSync(workspace.path('datagrams', 'layers')))
    assert.ok(machines.nfsMachineOf({ address: '10.0.0.7', transport: 'udp' }))
    assert.ok(machines.nfsMachineOf({ address: '10.0.0.8', transport: 'tcp' }))
    const made = readdirSync(workspace.path('datagrams', 'layers')).toSorted()
    assert.deepEqual(made, ['10.0.0.8', '52-54-00-00-00-07'])
  })

  test('wait while their root cannot be opened, which is reported once', async () => {
    await using created = create('locked')
    const { machines, errors } = created
    assert.ok(rootOf(machines, '10.0.0.7'))
    await machines.boots('10.0.0.7')
    const [layer] = listLayers(workspace.path('locked'))
    assert.ok(layer)
    await withLayer(layer, () => {
      for (let count = 0; count < 100; count++) {
        assert.equal(machines.nfsMachineOf({ address: '10.0.0.7', transport: 'tcp' }), 'busy')
      }
      assert.ok(rootOf(machines, '10.0.0.8'))
    })
    assert.equal(errors.length, 1)
    assertError(errors[0], 'in-use', { file: layer.directory })
    await waitUntil(
      'it can be opened',
      () => machines.nfsMachineOf({ address: '10.0.0.7', transport: 'tcp' }) !== 'busy',
    )
    assert.ok(rootOf(machines, '10.0.0.7'))
  })

  test('are told to wait if they ask while their layer is being closed for a new boot', async () => {
    await using created = create('boots')
    const { machines } = created
    const { fileSystem } = rootOf(machines, '10.0.0.7')
    fileSystem.create(fileSystem.root, Buffer.from('mine'), file)
    const boots = machines.boots('10.0.0.7')
    assert.equal(machines.nfsMachineOf({ address: '10.0.0.7', transport: 'tcp' }), 'busy')
    await boots
    const again = rootOf(machines, '10.0.0.7').fileSystem
    assert.ok(again.lookup(again.root, Buffer.from('mine')))
  })
})

function rootOf(
  machines: Machines,
  address: string,
  caller = callerAt(address),
): NfsMachine['exports'][number] {
  const machine = machines.nfsMachineOf(caller)
  assert.ok(typeof machine === 'object', address)
  const [root] = machine.exports
  assert.ok(root)
  return root
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length
}
