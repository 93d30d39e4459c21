// A layer that is opened in pieces: the machine waits, and others are answered.

import assert from 'node:assert/strict'
import { mock, suite, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { findNode } from '../../src/roots/find-node.ts'
import { isInUse } from '../../src/roots/store.ts'
import { listLayers } from '../../src/roots/stored-layer.ts'
import { callerAt, identitiesOf } from './support/identities.ts'
import { openMachines } from './support/machines.ts'
import { buildTo } from './support/served-image.ts'
import { servedWorkspace } from './support/served-workspace.ts'

const { workspace } = await servedWorkspace('opening-in-pieces')
const file = { kind: 'file', mode: 0o644, uid: 0, gid: 0 } as const
const name = '10.0.0.7'

suite('a machine whose layer is opened in pieces', async () => {
  const image = workspace.path('many-outside')
  const makeMany = 'mkdir ./files/many && for n in {1..1200}; do echo > ./files/many/$n; done'
  const flags = ['--nfs-root', '127.0.0.1:/srv/test,v3', '--populate-root-commands', makeMany]
  const built = await buildTo(workspace, image, ...flags)
  assert.equal(built.status, 0, built.stderr)

  /** @param action is called in each turn of the loop in which the machine waits */
  async function open(state: string, action = (_turn: number): unknown => undefined) {
    const created = await openMachines(workspace.path(state), [image], identitiesOf({}))
    const root = async (act = action) => {
      let machine = created.machines.nfsMachineOf(callerAt(name), '/srv/test')
      for (let turns = 0; machine === 'busy'; turns++) {
        await act(turns)
        await turn()
        machine = created.machines.nfsMachineOf(callerAt(name), '/srv/test')
      }
      assert.ok(typeof machine === 'object')
      return machine.exports[0]?.fileSystem ?? assert.fail()
    }
    return { created, root }
  }

  test('gets its root, which is closed with the server', async () => {
    // So each piece is one step.
    let now = 0
    const clock = mock.method(performance, 'now', () => (now += 10_000))
    const { created, root } = await open('once')
    let turns = 0
    const system = await root(() => turns++)
    assert.ok(turns > 2000, String(turns))
    assert.ok(findNode(system, ['many', '700']))
    system.create(system.root, Buffer.from('mine'), file)
    await system.stable()
    await created[Symbol.asyncDispose]()
    clock.mock.restore()
    const [layer = assert.fail()] = listLayers(workspace.path('once'))
    assert.equal(isInUse(layer), false)
    assert.deepEqual(created.errors, [])
  })
})
