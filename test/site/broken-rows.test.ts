// One machine has a broken row in the database of the site.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { suite, test } from 'node:test'
import type { NetimageError } from '../../src/errors.ts'
import { watchDeclarations } from '../../src/serve/declared.ts'
import { openSiteToRead, siteFile } from '../../src/site/database.ts'
import type { RestartRequest } from '../../src/site/rollout/rollout.ts'
import { openSite } from '../../src/site/site.ts'
import { netimageError } from '../support/errors.ts'
import { assertFailed, netimage } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { candidate, minutes } from './life/support/simulate.ts'

const freshName = freshNames(temporaryDirectory())
const start = 1_700_000_000_000
const [one, other, third] = ['10.0.0.1', '10.0.0.2', '10.0.0.3'] as const

const breaks = {
  machines: `UPDATE machines SET life = '{"machine":1}' WHERE machine = '${one}'`,
  generations: `UPDATE generations SET generation = '{' WHERE machine = '${one}'`,
  attempts: `UPDATE attempts SET attempt = '[]' WHERE machine = '${one}'`,
}

function run(state: string, sql: string): void {
  const database = new DatabaseSync(siteFile(state))
  database.exec(sql)
  database.close()
}

/** A site whose machines boot. */
async function open(state = freshName(), machines: readonly string[] = [one, other]) {
  const errors: NetimageError[] = []
  const onError = (error: NetimageError) => void errors.push(error)
  const site = openSite({ state, at: start, onTold: () => {}, onError })
  const begins = (machine: string, at = start) =>
    site.beginAttempt(machine, at, { byDefault: candidate('a') })
  const comesUp = (machine: string) =>
    site.sign(machine, { kind: 'bless', bootId: machine, toplevel: candidate('a').toplevel }, start)
  for (const machine of machines) {
    await begins(machine)
    site.sign(machine, { kind: 'asks' }, start)
  }
  site.tick(start)
  return { state, site, errors, begins, comesUp }
}

function requestsIn(state: string): string[] {
  const reader = openSiteToRead(state) ?? assert.fail()
  try {
    return [...reader.rollouts().requests.keys()]
  } finally {
    reader.close()
  }
}

suite('a broken row', () => {
  for (const [table, sql] of Object.entries(breaks)) {
    test(`in ${table} costs the attempts of its machine only`, async () => {
      const { state, site, errors, begins, comesUp } = await open()
      run(state, sql)
      for (const machine of [one, other]) comesUp(machine)
      for (let at = start; at <= start + 3 * minutes; at += 5000) site.tick(at)
      assert.equal(site.lifeOf(other).lastGood, 1)
      assert.deepEqual(
        errors.map(({ code, message }) => [code, message.includes(`of ${one} in`)]),
        [['bad-state', true]],
      )
      await assert.rejects(begins(one), netimageError('bad-state', { file: siteFile(state) }))
      assert.equal((await begins(other))?.attempt.number, 2)
      site.close(start)
    })
  }

  test('does not keep a server from starting, and is told with what removes it', async () => {
    const first = await open()
    run(first.state, breaks.attempts)
    const request: RestartRequest = {
      ...{ rollout: 1, group: 'lab', kind: 'reboot', attempt: 1 },
      ...{ uptime: 0, times: 1, command: 'ended' },
    }
    const text = JSON.stringify(request)
    for (const machine of [one, other]) {
      run(first.state, `INSERT INTO restart_requests VALUES ('${machine}', '${text}')`)
    }
    first.site.close(start)
    const { site, errors, begins } = await open(first.state, [])
    assert.deepEqual([...site.interrupted.keys()], [other])
    const [, file = '', sql = ''] = /sqlite3 (\S+) "(.*?)"/.exec(errors[0]?.hint ?? '') ?? []
    assert.equal(file, siteFile(first.state))
    for (const _ of ['a person types it', 'and again']) {
      const removed = spawnSync('sqlite3', [file, sql], { encoding: 'utf8' })
      assert.equal(removed.status, 0, removed.stderr)
    }
    // Snapshots and roll-outs know the numbers that it had.
    const { attempt, generation } = (await begins(one)) ?? assert.fail()
    assert.deepEqual([attempt.number, generation.number], [2, 2])
    assert.deepEqual(requestsIn(first.state), [other])
    site.close(start)
  })

  test('does not keep others from being excused for a power cut', async () => {
    const machines = [one, other, third]
    const { state, site, begins } = await open(freshName(), machines)
    await begins(one, start + 1000)
    await begins(other, start + 1000)
    run(state, breaks.generations)
    await begins(third, start + 1000)
    const outcomes = [other, third].map((each) => site.lifeOf(each).attempts[0]?.outcome)
    assert.deepEqual(outcomes, ['void', 'void'])
    site.close(start)
  })

  test('hides no other machine from people, and lets no image be removed', async () => {
    const { state, site } = await open()
    run(state, breaks.machines)
    site.close(start)
    const at = ['--state', state]
    const status = await netimage(['site', 'status', ...at])
    assert.equal(status.status, 4)
    assert.match(
      status.stdout,
      new RegExp(`^${other} .*\na row of ${one} in .*\\[bad-state\\]`, 'm'),
    )
    const ofOther = await netimage(['site', 'status', other, ...at])
    assert.equal(ofOther.status, 0, ofOther.stderr)
    const { message } = assertFailed(await netimage(['site', 'gc', '--json', ...at]), 'bad-state', {
      file: siteFile(state),
    })
    assert.match(message, new RegExp(`^no image was removed, because .* machine ${one} needs`))
  })

  const cards = ['dc:a6:32:00:00:01', 'dc:a6:32:00:00:02'] as const
  const breakDeclaration = `UPDATE declarations SET declaration = '{"macs":1}' WHERE machine = '${cards[0]}'`

  /** A site whose file says that a machine has two network cards. */
  async function declared() {
    const { state, site } = await open()
    const declaration = { macs: [...cards], serials: [] }
    run(state, `INSERT INTO declarations VALUES ('${cards[0]}', '${JSON.stringify(declaration)}')`)
    return { state, site }
  }

  test('in declarations costs a running server nothing, and is told once', async (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] })
    const { state, site } = await declared()
    const errors: NetimageError[] = []
    const onError = (error: NetimageError) => void errors.push(error)
    await using unfinished = new AsyncDisposableStack()
    const known = watchDeclarations((onBroken) => site.declarations(onBroken), onError, unfinished)
    run(state, breakDeclaration)
    for (let times = 0; times < 2; times++) context.mock.timers.tick(2000)
    // Otherwise the other card would be a new machine, with an empty root.
    assert.equal(known.machineOf(cards[1]), cards[0])
    assert.deepEqual(
      errors.map(({ code, message }) => [code, message.includes(`of ${cards[0]} in`)]),
      [['bad-state', true]],
    )
    const [, file = '', sql = ''] = /sqlite3 (\S+) "(.*?)"/.exec(errors[0]?.hint ?? '') ?? []
    assert.equal(file, siteFile(state))
    run(state, sql)
    context.mock.timers.tick(2000)
    assert.deepEqual([known.machineOf(cards[1]), errors.length], [cards[1], 1])
    site.close(start)
  })

  test('in declarations lets no plan be made and no card be taken for a machine', async () => {
    const { state, site } = await declared()
    run(state, breakDeclaration)
    site.close(start)
    const at = ['--state', state]
    const toml = `${state}/site.toml`
    writeFileSync(toml, '[machine.pi1]\nmac = ["dc:a6:32:00:00:01", "dc:a6:32:00:00:02"]\n')
    const isBroken = { file: siteFile(state) }
    assertFailed(
      await netimage(['site', 'plan', '--file', toml, '--json', ...at]),
      'bad-state',
      isBroken,
    )
    assertFailed(
      await netimage(['site', 'name', cards[1], 'pi2', '--json', ...at]),
      'bad-state',
      isBroken,
    )
    const status = await netimage(['site', 'status', ...at])
    assert.equal(status.status, 4)
    assert.match(status.stdout, new RegExp(`^a row of ${cards[0]} in .*\\[bad-state\\]`, 'm'))
  })
})
