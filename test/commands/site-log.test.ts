// Who did what in a site, as a person asks for it.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, renameSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { suite, test } from 'node:test'
import * as v from 'valibot'
import { lookInLog } from '../../src/commands/look-in-log.ts'
import { openSiteDatabase, openSiteToRead, siteFile } from '../../src/site/database.ts'
import { openSite } from '../../src/site/site.ts'
import { candidate } from '../site/life/support/simulate.ts'
import { killAtEachStep } from '../site/support/kill-at-each-step.ts'
import { assertFailed, netimage, netimageJson, startNetimage } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitFor } from '../support/waiting.ts'
import { openSiteWithGood } from './support/site-with-good.ts'

const freshName = freshNames(temporaryDirectory())
const mac = 'dc:a6:32:01:02:03'
// The log keeps no rows of long ago.
const start = Date.now() - 2 * 60 * 60_000
const me = userInfo().username
const time = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}/

/** A site in which a machine has a good generation, and another one in trial. */
async function siteOnTrial(): Promise<string> {
  const state = freshName()
  const site = await openSiteWithGood(state, mac, start)
  await site.assign(mac, candidate('b', { published: 'p' }), start, 'machine')
  mkdirSync(join(state, 'published', mac.replaceAll(':', '-'), 'p'), { recursive: true })
  site.close(start)
  return state
}

/** The lines of the log without their times. */
async function linesOf(state: string, ...args: string[]): Promise<string[]> {
  const { stdout, stderr, status } = await netimage(['site', 'log', ...args, '--state', state])
  assert.equal(status, 0, stderr)
  const lines = stdout.trimEnd().split('\n')
  for (const line of lines) assert.match(line, time)
  return lines.map((line) => line.replace(time, ''))
}

const ofServer = [
  `the server  ${mac}: assigned its own image a as generation 1`,
  `the server  ${mac}: generation 1 is good: the machine was up, and stayed up`,
  `${mac} itself  ${mac}: published /nix/store/b-system as generation 2; before: generation 1`,
]

suite('netimage site log', () => {
  test('shows what the server, the machine and people did, each in one row', async () => {
    const state = await siteOnTrial()
    assert.deepEqual(await linesOf(state), ofServer)
    const commands: [string[], string][] = [
      [['name', mac, 'pi1'], 'gave it the name pi1'],
      [['bad', 'pi1'], 'said that generation 2 is bad; generation 1 boots next'],
      [['good', 'pi1', '2'], 'said that generation 2 is good; generation 1 boots next'],
      [['rollback', 'pi1', '--to', '2'], 'rolled back to generation 2; before: generation 1'],
      [['name', 'pi1', 'pi2'], 'gave it the name pi2; before: pi1'],
    ]
    for (const [args] of commands) await netimageJson(['site', ...args, '--state', state])
    // What is refused changes nothing.
    const refused = await netimage(['site', 'name', mac, '-', '--json', '--state', state])
    assertFailed(refused, 'bad-option')
    const said = commands.map(([, says]) => `${me}  pi2: ${says}`)
    const all = [...ofServer.map((line) => line.replaceAll(mac, 'pi2')), ...said]
    assert.deepEqual(await linesOf(state), all)
    assert.deepEqual(await linesOf(state, 'pi2', '-n', '2'), said.slice(-2))
    assert.deepEqual(await linesOf(state, '--since', '1h'), said)
    assert.deepEqual(await linesOf(state, '--since', '2001-02-03'), all)
    const none = await netimage(['site', 'log', '02:00:00:00:00:01', '--state', state])
    assert.deepEqual([none.status, none.stdout], [0, 'nothing yet\n'])
    const wrong = await netimage(['site', 'log', '--since', 'soon', '--json', '--state', state])
    assertFailed(wrong, 'bad-usage')
  })

  test('names the files that a machine goes back to', async () => {
    const state = await siteOnTrial()
    const site = openSite({ state, at: start, onTold: () => {}, onError: assert.ifError })
    await site.beginAttempt(mac, start)
    site.sign(mac, { kind: 'asks' }, start)
    site.close(start)
    const snapshot = join('layers', mac.replaceAll(':', '-'), 'root/snapshots/before-generation-2')
    mkdirSync(join(state, snapshot), { recursive: true })
    await netimageJson(['site', 'rollback', mac, '--with-state', '--state', state])
    const [line = ''] = await linesOf(state, '-n', '1')
    assert.match(
      line,
      /rolled back to generation 1 with its files from the snapshot before-generation-2, .* left-after-attempt-2; before: generation 2$/,
    )
  })

  test('names who ran sudo, and never controls a terminal', async () => {
    const state = await siteOnTrial()
    const env = { SUDO_USER: 'al\u001b[2Jice\u202e', SUDO_UID: '1000' }
    await netimageJson(['site', 'bad', mac, '--state', state], { env })
    const site = openSiteDatabase(state)
    const reason = 'it says \u001b]0;x\u0007\r\nand more'
    const hostile = { kind: 'refused', toplevel: '/nix/store/x', reason } as const
    const machine = { kind: 'machine' } as const
    site.change((writer) =>
      writer.note({ at: Date.now(), machine: mac, who: machine, entry: hostile }),
    )
    site.close()
    const [bySudo, byMachine] = await linesOf(state, '-n', '2')
    const as = process.getuid?.() === 0 ? '' : ` as ${me}`
    assert.equal(
      bySudo,
      `al?[2Jice? by sudo${as}  ${mac}: said that generation 2 is bad; generation 1 boots next`,
    )
    const says = 'published /nix/store/x, which was refused: it says ?]0;x???and more'
    assert.equal(byMachine, `${mac} itself  ${mac}: ${says}`)
    const { stdout } = await netimage(['site', 'log', '--json', '-n', '2', '--state', state])
    assert.doesNotMatch(stdout, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
    const rows = stdout
      .trimEnd()
      .split('\n')
      .map((line): unknown => JSON.parse(line))
    const { uid } = userInfo()
    assert.partialDeepStrictEqual(rows, [
      {
        ...{ number: 4, machine: mac, kind: 'bad', generation: 2, next: 1 },
        who: { kind: 'person', uid, name: me, sudo: { user: env.SUDO_USER, uid: 1000 } },
        by: `${env.SUDO_USER} by sudo${as}`,
        says: 'said that generation 2 is bad; generation 1 boots next',
      },
      { number: 5, kind: 'refused', who: { kind: 'machine' }, by: `${mac} itself`, reason },
    ])
  })

  test('shows broken rows, and all others', async () => {
    const state = await siteOnTrial()
    const database = new DatabaseSync(siteFile(state))
    database.exec("UPDATE log SET details = '{' WHERE number = 2")
    database.close()
    const run = await netimage(['site', 'log', '--state', state])
    const [first = '', second = '', third = ''] = run.stdout.split('\n')
    assert.deepEqual([run.status, run.stderr], [4, ''])
    assert.match(second, /^row 2 is broken: /)
    assert.deepEqual(
      [first, third].map((line) => line.replace(time, '')),
      [ofServer[0], ofServer[2]],
    )
    await netimageJson(['site', 'bad', mac, '--state', state])
    const json = await netimage(['site', 'log', '--json', '--state', state])
    const numbers = json.stdout
      .trimEnd()
      .split('\n')
      .map((line) => v.parse(v.object({ number: v.number() }), JSON.parse(line)).number)
    assert.deepEqual(numbers, [1, 2, 3, 4])
  })

  test('makes no change whose row cannot be written', async () => {
    const state = await siteOnTrial()
    const database = new DatabaseSync(siteFile(state))
    database.exec("CREATE TRIGGER no BEFORE INSERT ON log BEGIN SELECT RAISE(ABORT, 'no'); END")
    database.close()
    for (const args of [
      ['name', mac, 'pi1'],
      ['bad', mac],
      ['rollback', mac],
    ]) {
      assert.notEqual((await netimage(['site', ...args, '--state', state])).status, 0)
    }
    const site = openSiteToRead(state) ?? assert.fail()
    assert.deepEqual([site.names().size, site.lifeOf(mac).current], [0, 2])
    site.close()
  })

  test('follows a site that is not there yet, until it is interrupted', async () => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const state = freshName()
      const following = startNetimage(['site', 'log', '--follow', '--json', '--state', state])
      const { stdout } = following.child
      assert.ok(stdout)
      for (const name of ['pi1', 'pi2']) {
        const shown = once(stdout, 'data')
        await netimageJson(['site', 'name', mac, name, '--state', state])
        const [line] = await waitFor(`the row of ${name}`, shown)
        assert.partialDeepStrictEqual(JSON.parse(String(line)), { kind: 'named', newName: name })
      }
      following.child.kill(signal)
      const { status, stderr } = await waitFor('the end', following.ended)
      assert.deepEqual([status, stderr], [0, ''])
    }
  })

  test('shows no row again if the site is away for a moment while somebody follows it', async () => {
    const state = await siteOnTrial()
    const { rows, last } = await lookInLog(state, {})
    assert.deepEqual([rows.length, last], [3, 3])
    const away = freshName()
    renameSync(state, away)
    const without = await lookInLog(state, { after: last })
    assert.deepEqual(without.rows, [])
    renameSync(away, state)
    await netimageJson(['site', 'name', mac, 'pi1', '--state', state])
    const back = await lookInLog(state, { after: without.last })
    assert.deepEqual(
      back.rows.map(({ number }) => number),
      [4],
    )
  })

  test('ends without an error if nobody reads its output any more', async () => {
    const state = await siteOnTrial()
    const { child, ended } = startNetimage(['site', 'log', '--follow', '--state', state])
    const { stdout } = child
    assert.ok(stdout)
    await waitFor('the first rows', once(stdout, 'data'))
    stdout.destroy()
    await netimageJson(['site', 'bad', mac, '--state', state])
    const { status, stderr } = await waitFor('the end', ended)
    assert.deepEqual([status, stderr], [0, ''])
  })
})

test('a command that is killed has made its change and its row, or none of them', () => {
  killAtEachStep({
    command: ['site', 'name', mac, 'pi1'],
    prepare() {
      const state = freshName()
      openSiteDatabase(state).close()
      return state
    },
    isDone(state, when) {
      const site = openSiteToRead(state) ?? assert.fail()
      const isNamed = site.names().get(mac) === 'pi1'
      const { rows } = site.log({})
      site.close()
      assert.equal(rows.length, isNamed ? 1 : 0, when)
      return isNamed
    },
  })
})
