// The commands with which people direct and see roll-outs, as they run them.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { suite, test } from 'node:test'
import { openSiteToRead, siteFile } from '../../src/site/database.ts'
import { generationOf } from '../../src/site/life/life.ts'
import { saysWhat } from '../../src/site/log/sentence.ts'
import type { RestartCommands } from '../../src/site/rollout/rollout.ts'
import { begunRollout } from '../serve/support/begun-rollout.ts'
import { killAtEachStep } from '../site/support/kill-at-each-step.ts'
import { assertFailed, netimage, netimageJson } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { letServerRun, serveRollouts } from './support/rollout-server.ts'

const freshName = freshNames(temporaryDirectory())
const mac = (number: number) => `dc:a6:32:00:00:0${number}`
const all = [mac(1), mac(2), mac(3)]
const group = 'lab'

/** A site with a roll-out that no server has let go on yet. */
async function begun(names: readonly string[], restart?: ReadonlyMap<string, RestartCommands>) {
  const state = freshName()
  await begunRollout(state, names, restart)
  // Enough of the images for machines to go back to them.
  for (const image of ['old', 'new']) mkdirSync(join(state, 'images', image), { recursive: true })
  const site = (...args: string[]) => netimage(['site', ...args, '--state', state])
  return {
    state,
    site,
    json: (...args: string[]) => netimageJson(['site', ...args, '--state', state]),
    look: () => lookAt(state),
  }
}

function lookAt(state: string) {
  const reader = openSiteToRead(state) ?? assert.fail()
  try {
    const rollout = reader.rollouts().newest[0] ?? assert.fail()
    return {
      rollout,
      log: reader.log({}).rows.map((row) => {
        if (!('entry' in row)) assert.fail(row.broken)
        return `${row.who.kind} ${row.machine ?? ''}: ${saysWhat(row.entry, row.who)}`
      }),
      next: all.map((machine) => {
        const life = reader.lifeOf(machine)
        return generationOf(life, life.current)?.image
      }),
    }
  } finally {
    reader.close()
  }
}

suite('the roll-out of a group', () => {
  test('is paused, resumed and aborted, and each is a row of the log', async (context) => {
    const { state, site, look } = await begun(all)
    const orders = [
      ['pause', 0],
      ['pause', 2],
      ['resume', 0],
      ['resume', 2],
      ['abort', 0],
      ['abort', 2],
      ['resume', 2],
    ] as const
    for (const [order, status] of orders) {
      const run = await site(order, group, '--json')
      assert.equal(run.status, status, `${order}: ${run.stdout}`)
      if (status === 2) assertFailed(run, 'bad-rollout')
    }
    assert.deepEqual(
      look().log.filter((line) => line.startsWith('person')),
      ['paused', 'resumed', 'aborted'].map((done) => `person : ${done} roll-out 1 of lab`),
    )
    await letServerRun(context, state)
    assert.deepEqual(look().next, ['old', 'old', 'old'])
    assertFailed(await site('pause', 'lap', '--json'), 'unknown-group', { actual: 'lap' })
  })

  test('gives its image to no machine while it is paused', async (context) => {
    const { state, site, look } = await begun(all)
    await site('pause', group)
    await letServerRun(context, state)
    assert.deepEqual(look().next, ['old', 'old', 'old'])
    await site('resume', group)
    await letServerRun(context, state)
    assert.deepEqual(look().next, ['new', 'new', 'new'])
    // Those that have not tried it go back at once.
    await site('abort', group)
    assert.deepEqual(look().next, ['old', 'old', 'old'])
  })

  test('leaves out a machine that is held, until it is released', async (context) => {
    const { state, site, look } = await begun(all)
    assert.equal((await site('hold', mac(2))).status, 0)
    assert.match((await site('hold', mac(2))).stdout, /is held already, since .*, by /)
    await letServerRun(context, state)
    assert.deepEqual(look().next, ['new', 'old', 'new'])
    assert.match((await site('status')).stdout, new RegExp(`${mac(2)} .* held\n`))
    assert.match((await site('status', mac(2))).stdout, /\n {2}held {3}since .*leave it out\n/)
    assert.equal((await site('release', mac(2))).status, 0)
    assert.match((await site('release', mac(2))).stdout, /was not held/)
    await letServerRun(context, state)
    assert.deepEqual(look().next, ['new', 'new', 'new'])
    assert.deepEqual(
      look().log.filter((line) => line.startsWith('person')),
      [
        `person ${mac(2)}: held it: roll-outs leave it out`,
        `person ${mac(2)}: released it: roll-outs do not leave it out any more`,
      ],
    )
  })

  test('says why it halted and what a person can do, and goes on when they have done it', async (context) => {
    const { state, site, json, look } = await begun(all)
    await site('name', mac(1), 'pi1')
    const server = await serveRollouts(context, state)
    await server.boot(mac(1), 'bad')
    const isHalted = async () => {
      const { groups } = await json('status', group)
      return JSON.stringify(groups).includes('"halted"')
    }
    await waitUntil('the roll-out halts', isHalted)
    await server.close()
    const { stdout } = await site('status')
    assert.match(
      stdout,
      /^group lab: roll-out 1 of image new is halted: pi1 is bad\n {2}wave 1 of 1: 1 bad, 2 pending\n/,
    )
    assert.match(stdout, /\n {2}next: see why pi1 failed /)
    assert.match(stdout, /netimage site hold MACHINE\), then netimage site resume lab\n/)
    assert.match(stdout, /\n\nmachine +name +group +runs/)
    const refused = await site('resume', group, '--json')
    assert.ok(look().log.includes('server : roll-out 1 of lab halts: pi1 is bad'))
    assert.match(assertFailed(refused, 'bad-rollout').message, /would halt again: pi1 is bad$/)
    await site('hold', 'pi1')
    assert.equal((await site('resume', group)).status, 0)
    assert.match((await site('status', group)).stdout, /\n {4}pi1 \(dc:.*:01\) {2}held\n/)
    assert.partialDeepStrictEqual(await json('status', group), {
      groups: [
        {
          ...{ group, rollout: 1, state: 'running', wave: 1, waves: 1, counts: { held: 1 } },
          machines: { [mac(1)]: 'held' },
        },
      ],
    })
    const released = await site('release', 'pi1')
    assert.match(released.stdout, /is bad on it as generation 2, .*netimage site good dc:.*:01 2\n/)
    assert.equal((await site('good', 'pi1', '2')).status, 0)
    await letServerRun(context, state)
    assert.deepEqual(look().next, ['new', 'new', 'new'])
  })

  test('is given to a machine again on which a person calls it good, also if only people saw it bad', async (context) => {
    const { state, site, look } = await begun(all)
    await letServerRun(context, state)
    for (const verdict of ['bad', 'good']) {
      assert.equal((await site(verdict, mac(1), '2')).status, 0)
      assert.deepEqual(look().next, ['old', 'new', 'new'])
    }
    await letServerRun(context, state)
    assert.deepEqual(look().next, ['new', 'new', 'new'])
  })

  test('is not hidden if its row is broken', async () => {
    const { state, site } = await begun(all)
    const database = new DatabaseSync(siteFile(state))
    database.exec("UPDATE rollouts SET rollout = '{'")
    database.close()
    const problem = /^a row of roll-out 1 of lab in .* is broken/
    for (const command of ['status', 'pause']) {
      const { message, hint } = assertFailed(await site(command, group, '--json'), 'bad-state', {
        file: siteFile(state),
      })
      assert.match(message, problem)
      assert.match(hint ?? '', /begin another roll-out of the group: netimage site apply\./)
    }
    const { status, stdout } = await site('status')
    assert.equal(status, 4)
    assert.match(stdout, problem)
    assert.match(stdout, new RegExp(`\n${mac(3)} `))
    const shown = await site('status', '--json')
    assert.match(shown.stdout, /"brokenGroups":\s*\[\s*\{\s*"group":\s*"lab"/)
  })

  test('tells which machines a person has to restart', async (context) => {
    const { state, site } = await begun(all, new Map([[mac(3), { reboot: ['true'] }]]))
    await letServerRun(context, state)
    const { stdout } = await site('status')
    assert.match(stdout, new RegExp(`\n {2}next: restart ${mac(1)}, ${mac(2)}: nobody else does\n`))
  })
})

suite('netimage site rollback of a group', () => {
  test('lets all machines go back that boot its image next, and names those that stay', async (context) => {
    const { state, site, json, look } = await begun(all)
    const server = await serveRollouts(context, state)
    await server.boot(mac(1), 'good')
    await server.boot(mac(2), 'good')
    await server.close()
    assert.deepEqual(look().next, ['new', 'new', 'new'])
    // The second one has no other good generation then.
    await site('bad', mac(2), '1')
    const before = look().log.length
    const done = await json('rollback', group)
    assert.deepEqual(done, {
      ...{ group, rollout: 1, isAborted: true },
      ...{ back: [{ machine: mac(1), generation: 1 }] },
      stay: [{ machine: mac(2), why: 'it has no other good generation' }],
    })
    const { next, rollout, log } = look()
    assert.deepEqual([next, rollout.state], [['old', 'new', 'old'], 'aborted'])
    assert.deepEqual(log.slice(before), [
      'person : aborted roll-out 1 of lab: rolled back',
      `person ${mac(1)}: rolled back to generation 1; before: generation 2`,
    ])
    const again = await json('rollback', group)
    assert.deepEqual(again, { group, rollout: 1, isAborted: false, back: [], stay: done['stay'] })
  })

  test('has done all or nothing if it is killed', async (context) => {
    const original = await begun(all)
    const server = await serveRollouts(context, original.state)
    for (const machine of all) await server.boot(machine, 'good')
    await server.close()
    killAtEachStep({
      command: ['site', 'rollback', group],
      prepare() {
        const state = freshName()
        cpSync(original.state, state, { recursive: true })
        return state
      },
      isDone(state, when) {
        const { next, rollout, log } = lookAt(state)
        const isAll = rollout.state === 'aborted'
        const image = isAll ? 'old' : 'new'
        assert.deepEqual(next, [image, image, image], when)
        assert.equal(log.filter((row) => row.startsWith('person')).length, isAll ? 4 : 0)
        return isAll
      },
    })
  })

  test('leaves machines with the image that cannot boot another one, or are held', async (context) => {
    const { state, site, json, look } = await begun(all)
    const server = await serveRollouts(context, state)
    await server.boot(mac(1), 'good')
    await server.boot(mac(3), 'good')
    await server.close()
    await site('hold', mac(3))
    rmSync(join(state, 'images', 'old'), { recursive: true })
    const { back, stay } = await json('rollback', group)
    assert.deepEqual(back, [])
    assert.match(JSON.stringify(stay), /"machine":"dc:.*:01","why":"generation 1 .* cannot boot/)
    assert.match(JSON.stringify(stay), /"machine":"dc:.*:03","why":"it is held"/)
    assert.deepEqual(look().next, ['new', 'old', 'new'])
  })

  test('lets the others go back if a row of one machine is broken', async (context) => {
    const { state, json } = await begun(all)
    const server = await serveRollouts(context, state)
    for (const machine of all) await server.boot(machine, 'good')
    await server.close()
    const database = new DatabaseSync(siteFile(state))
    database.exec(`UPDATE generations SET generation = '{' WHERE machine = '${mac(1)}'`)
    database.close()
    const { back, stay } = await json('rollback', group)
    const generation = 1
    assert.deepEqual(back, [
      { machine: mac(2), generation },
      { machine: mac(3), generation },
    ])
    assert.match(JSON.stringify(stay), /^\[\{"machine":"dc:.*:01","why":"a row of .* is broken/)
  })

  test('refuses a name that a machine has as well, and options for one machine', async () => {
    const { site, look } = await begun(all)
    const before = look()
    const option = await site('rollback', group, '--to', '1', '--json')
    assertFailed(option, 'bad-usage', { actual: group })
    assert.deepEqual(look(), before)
    await site('name', mac(1), group)
    for (const command of ['rollback', 'status']) {
      const { message } = assertFailed(await site(command, group, '--json'), 'bad-usage')
      assert.equal(message, 'lab is the name of a group and of a machine')
    }
  })
})
