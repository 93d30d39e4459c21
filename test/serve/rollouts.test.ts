// A server lets the roll-outs of its site go on.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { suite, test, type TestContext } from 'node:test'
import { startRollouts, type RolloutsSettings } from '../../src/serve/rollouts.ts'
import { openSiteDatabase, openSiteToRead, siteFile } from '../../src/site/database.ts'
import { decide } from '../../src/site/life/choose.ts'
import { generationOf } from '../../src/site/life/life.ts'
import { pause } from '../../src/site/rollout/pause-resume.ts'
import { abortRollout, beginRollout, stepRollouts } from '../../src/site/rollout/rollouts.ts'
import { openSite } from '../../src/site/site.ts'
import type { SiteWriter } from '../../src/site/statements.ts'
import { netimage } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { candidate } from '../site/life/support/simulate.ts'
import { settings } from '../site/rollout/support/simulate.ts'
import { begunRollout } from './support/begun-rollout.ts'

const freshName = freshNames(temporaryDirectory())

async function start(context: TestContext, state: string, more: Partial<RolloutsSettings> = {}) {
  const [told, errors]: [string[], string[]] = [[], []]
  const rollouts = await startRollouts({
    state,
    onTold: ({ machine, says }) => told.push(machine === undefined ? says : `${machine}: ${says}`),
    onError: ({ message }) => errors.push(message),
    ...more,
  })
  let isClosed = false
  async function close(): Promise<void> {
    if (!isClosed) await rollouts.close()
    isClosed = true
  }
  context.after(close)
  return { told, errors, close }
}

function nextImages(state: string, names: readonly string[]): (string | undefined)[] {
  const database = openSiteDatabase(state)
  const lives = names.map((name) => database.read.lifeOf(name))
  database.close()
  return lives.map((life) => generationOf(life, life.current)?.image)
}

const hasRun = (says: string) => says.endsWith(': has run')

suite('the roll-outs of a server', () => {
  test('go on before it serves machines, and restart machines once it is on the disk', async (context) => {
    const file = freshName()
    const reboot = ['sh', '-c', `echo restarted >> "${file}"; echo bye`]
    const state = await begunRollout(freshName(), ['pi1', 'pi2'], new Map([['pi1', { reboot }]]))
    const { told, errors } = await start(context, state)
    assert.deepEqual(nextImages(state, ['pi1', 'pi2']), ['new', 'new'])
    await waitUntil('the command has ended', () => told.length === 2)
    assert.equal(told[0], 'pi1: asks it to restart')
    assert.match(told[1] ?? '', /^pi1: has run sh .* ended with status 0: bye$/)
    assert.equal(readFileSync(file, 'utf8'), 'restarted\n')
    // Another server does not ask again.
    const other = await start(context, state)
    assert.deepEqual([other.told, other.errors, errors], [[], [], []])
    // The log says the same.
    const site = openSiteToRead(state) ?? assert.fail()
    const rows = site.log({}).rows.map((row) => ('entry' in row ? row : assert.fail(row.broken)))
    site.close()
    assert.deepEqual(
      rows
        .slice(-2)
        .map(({ entry, machine, who }) => [
          who.kind,
          `${machine}: ${'says' in entry ? entry.says : entry.kind}`,
        ]),
      told.map((says) => ['server', says]),
    )
  })

  test('ends the commands that run when it ends', async (context) => {
    const file = freshName()
    const reboot = ['sh', '-c', `: > "${file}"; sleep 1000`]
    const state = await begunRollout(freshName(), ['pi1'], new Map([['pi1', { reboot }]]))
    const { told, close } = await start(context, state)
    await waitUntil('the command runs', () => existsSync(file))
    await close()
    assert.match(told[1] ?? '', /ended with status SIGTERM$/)
    // It may have reached the machine, so the next server does not run it again, and tells a person.
    const other = await start(context, state)
    assert.equal(other.told.length, 1)
    assert.match(other.told[0] ?? '', /^pi1: does not know whether its command has reached/)
    const third = await start(context, state)
    assert.deepEqual(third.told, [])
  })

  test('run the commands that a killed server had not begun', async (context) => {
    const file = freshName()
    const reboot = ['sh', '-c', `echo restarted >> "${file}"`]
    const state = await begunRollout(freshName(), ['pi1'], new Map([['pi1', { reboot }]]))
    const killed = openSiteDatabase(state)
    killed.change((writer) => {
      const now = { at: 0, uptime: writer.uptime() }
      assert.equal(stepRollouts(writer, now, assert.ifError).restarts.length, 1)
    })
    killed.close()
    const { told } = await start(context, state)
    await waitUntil('the command has ended', () => told.length === 3)
    assert.deepEqual(told.slice(0, 2), [
      'pi1: has not asked it to restart, because the server ended before',
      'pi1: asks it to restart',
    ])
    assert.equal(readFileSync(file, 'utf8'), 'restarted\n')
  })

  test('do not run a command that waited, if the machine starts again meanwhile', async (context) => {
    const names = Array.from({ length: 17 }, (_, index) => `pi${String(index).padStart(2, '0')}`)
    const restart = new Map(names.map((name) => [name, { reboot: [name] }]))
    const state = await begunRollout(freshName(), names, restart, { maxUnavailable: 17 })
    const ran: string[] = []
    const ends = Promise.withResolvers<string>()
    const { told, close } = await start(context, state, {
      async restart([name = '']) {
        ran.push(name)
        return await ends.promise
      },
    })
    await waitUntil('so many commands run as may run at once', () => ran.length === 16)
    const site = openSite({ state, at: 0, onTold: () => {}, onError: assert.ifError })
    const last = names.find((name) => !ran.includes(name)) ?? assert.fail()
    await site.beginAttempt(last, 0)
    site.sign(last, { kind: 'asks' }, 0)
    site.close(0)
    ends.resolve('has run')
    await waitUntil('all commands have ended', () => told.length === 17 + 16 + 1)
    await close()
    assert.equal(ran.length, 16)
    const says = `${last}: has not asked it to restart, because it has started again meanwhile`
    assert.ok(told.includes(says))
  })

  for (const [what, change] of [
    ['is held', ({ rollouts }, machine) => rollouts.hold(machine, { at: 0, by: 'person' })],
    [
      'moves to another group',
      ({ rollouts }, machine) =>
        rollouts.setGroups(new Map([...rollouts.read().groups, [machine, 'other']])),
    ],
    [
      'waits in a roll-out that is paused',
      ({ rollouts }) => {
        const paused = pause(rollouts.read().newest[0] ?? assert.fail())
        rollouts.keep('why' in paused ? assert.fail(paused.why) : paused)
      },
    ],
    [
      'waits in a roll-out that is aborted',
      (writer) => {
        const rollout = writer.rollouts.read().newest[0] ?? assert.fail()
        abortRollout(writer, rollout, 'a person', { at: 0, uptime: writer.uptime() })
      },
    ],
    [
      'waits in a roll-out that is replaced',
      (writer) => {
        const newer = settings([['other']], { candidate: candidate('newer') })
        beginRollout(writer, newer, new Map(), { at: 0, uptime: writer.uptime() })
      },
    ],
  ] satisfies [string, (writer: SiteWriter, machine: string) => void][]) {
    test(`do not run a command that waited, if the machine ${what} meanwhile`, async (context) => {
      const names = Array.from({ length: 17 }, (_, index) => `pi${index}`)
      const restart = new Map(names.map((name) => [name, { reboot: [name] }]))
      const state = await begunRollout(freshName(), names, restart, { maxUnavailable: 17 })
      const ran: string[] = []
      const ends = Promise.withResolvers<string>()
      const { told, close, errors } = await start(context, state, {
        async restart([name = '']) {
          ran.push(name)
          return await ends.promise
        },
      })
      await waitUntil('so many commands run as may run at once', () => ran.length === 16)
      const last = names.find((name) => !ran.includes(name)) ?? assert.fail()
      const database = openSiteDatabase(state)
      const requests = () => database.read.rollouts().requests
      assert.equal(requests().get(last)?.command, 'due')
      database.change((writer) => change(writer, last))
      ends.resolve('has run')
      await waitUntil('all commands have ended', () => told.length >= 17 + 16 + 1)
      await close()
      assert.deepEqual([ran.length, errors], [16, []])
      // The log has said that the machine is asked.
      const why = 'because the roll-out would not ask this any more'
      const says = `${last}: has not asked it to restart, ${why}`
      assert.deepEqual(
        told.filter((each) => !hasRun(each) && !each.endsWith(': asks it to restart')),
        [says],
      )
      // It is as if nobody had asked the machine, so it has no slot.
      assert.equal(requests().has(last), false)
      assert.equal(requests().size, 16)
      database.close()
    })
  }

  test('takes many machines in several steps', async (context) => {
    const names = Array.from({ length: 250 }, (_, index) => `pi${index}`)
    const state = await begunRollout(freshName(), names)
    await start(context, state)
    assert.ok(nextImages(state, names).every((image) => image === 'new'))
  })

  test('goes on with a roll-out that a person begins while it runs', async (context) => {
    const restart = new Map([['pi1', { reboot: ['reboot'] }]])
    const state = await begunRollout(freshName(), ['pi1'], restart)
    const ends = Promise.withResolvers<string>()
    await start(context, state, { restart: () => ends.promise })
    const database = openSiteDatabase(state)
    const command = () => database.read.restartRequestOf('pi1')?.command
    await waitUntil('the command runs', () => command() === 'begun')
    database.change((writer) => {
      const now = { at: 0, uptime: writer.uptime() }
      const newer = settings([['pi1']], { candidate: candidate('newer') })
      beginRollout(writer, newer, new Map(), now)
    })
    await waitUntil(
      'the machine has the newer image',
      () => nextImages(state, ['pi1'])[0] === 'newer',
    )
    // Only a server that starts takes it for one that was cut off.
    assert.equal(command(), 'begun')
    ends.resolve('has run')
    await waitUntil('the command has ended', () => command() === 'ended')
    database.close()
  })

  test('leaves out a machine with a broken row, and tells of a broken roll-out', async (context) => {
    const state = await begunRollout(freshName(), ['pi1', 'pi2'])
    const database = new DatabaseSync(siteFile(state))
    database.exec(`UPDATE generations SET generation = '{' WHERE machine = 'pi1'`)
    const first = await start(context, state)
    assert.equal(first.errors.length > 0, true)
    assert.match(first.errors[0] ?? '', /a row of pi1 in .* is broken/)
    await first.close()
    assert.deepEqual(nextImages(state, ['pi2']), ['new'])
    database.exec(
      `UPDATE rollouts SET rollout = '{'; INSERT INTO restart_requests VALUES ('pi2', '{')`,
    )
    database.close()
    const second = await start(context, state)
    assert.match(second.errors[0] ?? '', /a row of roll-out 1 of lab in .* is broken/)
    assert.match(second.errors[1] ?? '', /a row of pi2 in .* is broken/)
  })

  test('asks no machine again if it cannot be read whether it was asked', async (context) => {
    const reboot = ['sh', '-c', ':']
    const restart = new Map(['pi1', 'pi2'].map((name) => [name, { reboot }]))
    const state = await begunRollout(freshName(), ['pi1', 'pi2'], restart)
    const first = await start(context, state)
    await waitUntil('the command has ended', () => first.told.length === 2)
    assert.equal(first.told[0], 'pi1: asks it to restart')
    await first.close()
    const database = new DatabaseSync(siteFile(state))
    database.exec("UPDATE restart_requests SET request = '{' WHERE machine = 'pi1'")
    const status = await netimage(['site', 'status', '--state', state])
    assert.equal(status.status, 4)
    assert.match(status.stdout, /^a row of pi1 in .*\[bad-state\]\n {2}The row says when/m)
    // It may be going down, so it has the only slot.
    const second = await start(context, state)
    assert.equal(second.told.length, 1)
    assert.match(second.told[0] ?? '', /^pi1: does not know whether it was asked .* broken: waits/)
    await second.close()
    const after = await netimage(['site', 'status', '--state', state])
    assert.equal(after.status, 0)
    assert.match(after.stdout, /1 asked/)
    assert.doesNotMatch(after.stdout, /broken/)
    // A person may remove the row instead.
    const [, sql = ''] = /sqlite3 \S+ "(.*?)"/.exec(status.stdout) ?? []
    database.exec(sql)
    database.close()
    const third = await start(context, state)
    assert.equal(third.told[0], 'pi1: asks it to restart')
  })

  test('halt for a bad machine of which it cannot be read when it was asked', async () => {
    const restart = new Map([['pi1', { reboot: ['true'] }]])
    const state = await begunRollout(freshName(), ['pi1', 'pi2'], restart)
    const database = openSiteDatabase(state)
    const step = () =>
      database.change((writer) => {
        stepRollouts(writer, { at: 0, uptime: writer.uptime() }, () => {})
      })
    step()
    database.change((writer) => {
      writer.keep(decide(writer.of('pi1'), undefined, 'bad')?.life ?? assert.fail())
    })
    const other = new DatabaseSync(siteFile(state))
    other.exec("UPDATE restart_requests SET request = '{' WHERE machine = 'pi1'")
    other.close()
    step()
    assert.equal(database.read.rollouts().newest[0]?.state, 'halted')
    database.close()
  })

  test('that are broken leave no machine an image that it has not tried', async () => {
    const state = await begunRollout(freshName(), ['pi1', 'pi2'])
    const database = openSiteDatabase(state)
    const now = { at: 0, uptime: database.read.uptime() }
    database.change((writer) => stepRollouts(writer, now, assert.ifError))
    assert.deepEqual(nextImages(state, ['pi1', 'pi2']), ['new', 'new'])
    const other = new DatabaseSync(siteFile(state))
    other.exec("UPDATE rollouts SET rollout = '{'")
    other.close()
    database.change((writer) => {
      const newer = settings([['pi1'], ['pi2']], { candidate: candidate('newer') })
      beginRollout(writer, newer, new Map(), now)
      stepRollouts(writer, now, assert.ifError)
    })
    assert.deepEqual(nextImages(state, ['pi1', 'pi2']), ['newer', 'old'])
    database.change((writer) => {
      abortRollout(writer, writer.rollouts.read().newest[0] ?? assert.fail(), 'a person', now)
    })
    database.close()
    assert.deepEqual(nextImages(state, ['pi1', 'pi2']), ['old', 'old'])
  })
})
