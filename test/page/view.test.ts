// What is seen of a site that others change.

import assert from 'node:assert/strict'
import { suite, test, type TestContext } from 'node:test'
import type { Boot } from '../../src/boots/follow.ts'
import { createView, type Changes } from '../../src/page/view.ts'
import { openSiteDatabase } from '../../src/site/database.ts'
import { begunRollout } from '../serve/support/begun-rollout.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { bootOf } from './support/boots.ts'

const freshName = freshNames(temporaryDirectory())
const [mac, other] = ['dc:a6:32:01:02:03', 'dc:a6:32:01:02:04']

async function viewed(context: TestContext, boots: () => readonly Boot[] = () => []) {
  const state = await begunRollout(freshName(), [mac, other])
  const told: Changes[] = []
  const onChanges = (changes: Changes) => void told.push(changes)
  const view = createView({ state, boots, onChanges, onError: assert.ifError })
  const site = openSiteDatabase(state)
  context.after(async () => {
    site.close()
    await view.close()
  })
  const measured = async () => {
    const { machines } = await view.look()
    return [...machines.values()].every(({ value }) => value.layer !== undefined)
  }
  await waitUntil('the layers are measured', measured)
  return { view, site, told }
}

suite('a view', () => {
  test('tells nothing if nothing has changed, and gives the same then', async (context) => {
    const boot = bootOf(mac)
    const { view, told } = await viewed(context, () => [{ ...boot }])
    const [seen, { length }] = [await view.look(), told]
    let clock = 1e9
    context.mock.method(performance, 'now', () => clock)
    assert.equal(await view.look(), seen)
    boot.bytes += 1
    clock = 2e9
    assert.notEqual(await view.look(), seen)
    assert.deepEqual(told.slice(length), [
      { machines: new Set([mac]), groups: new Set(), others: false },
    ])
  })

  test('tells when a machine that is not in the site goes on, and when it is gone', async (context) => {
    const boots = [bootOf('02:00:00:00:00:09')]
    const { view, told } = await viewed(context, () => boots)
    const [{ others }, { length }] = [await view.look(), told]
    assert.deepEqual(
      [...others.values()].map(({ value }) => value),
      boots,
    )
    let clock = 1e9
    context.mock.method(performance, 'now', () => (clock += 1e9))
    await view.look()
    assert.equal(told.length, length)
    for (const boot of boots) boot.bytes += 1
    await view.look()
    boots.pop()
    await view.look()
    const change = { machines: new Set(), groups: new Set(), others: true }
    assert.deepEqual(told.slice(length), [change, change])
  })

  test('tells when a machine gave its last sign, also if no server ran since then', async (context) => {
    const { view } = await viewed(context)
    const { machines } = await view.look()
    assert.equal(machines.get(mac)?.value.seenAt, 180_000)
  })

  test('shows what is different only in an old generation, as soon as the log has it', async (context) => {
    const { view, site } = await viewed(context)
    const before = await view.look()
    site.change((writer) => {
      const life = writer.of(mac)
      const generations = life.generations.map((each) => ({ ...each, reason: 'because' }))
      writer.keep({ ...life, generations })
      const entry = { kind: 'good', generation: 1 } as const
      writer.note({ at: Date.now(), machine: mac, who: { kind: 'server' }, entry })
    })
    await waitUntil('it is shown', async () => {
      const { machines } = await view.look()
      return machines.get(mac)?.value.last?.generation.reason === 'because'
    })
    const { machines } = await view.look()
    assert.equal(machines.get(other), before.machines.get(other))
  })
})
