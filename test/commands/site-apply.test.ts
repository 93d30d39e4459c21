// `netimage site apply`, as a person runs it, without a server and with its roll-outs.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, rmSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { after, before, suite, test } from 'node:test'
import { openSiteToRead, siteFile } from '../../src/site/database.ts'
import { generationOf } from '../../src/site/life/life.ts'
import { saysWhat } from '../../src/site/log/sentence.ts'
import { buildSystem, writeSystems } from '../site/images/support/made-images.ts'
import { killAtEachStep } from '../site/support/kill-at-each-step.ts'
import {
  cli,
  assertFailed,
  netimage,
  netimageJson,
  parseObject,
  startNetimage,
  type Run,
} from '../support/netimage.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'
import { letServerRun, serveRollouts } from './support/rollout-server.ts'

const mac = (number: number) => `dc:a6:32:00:00:0${number}`

/** Debian's package bsdutils has it. Every Debian machine has this package. */
const terminal = 'script'

/** Runs a line of the shell. */
function shell(line: string, cwd: string) {
  return spawnSync('sh', ['-c', line], { encoding: 'utf8', cwd })
}

suite('netimage site apply', () => {
  let workspace: Workspace
  let [first, next] = ['', '']
  /** A site with two images, in which three machines boot the first one. */
  let prepared = ''

  before(async () => {
    workspace = makeWorkspace('site-apply')
    prepared = workspace.path('prepared')
    writeSystems(workspace)
    for (const name of ['first', 'second'] as const) {
      await buildSystem(workspace, name, workspace.path(`out/${name}`))
    }
    const add = (name: string) =>
      netimageJson(['site', 'add', workspace.path(`out/${name}`), '--state', prepared])
    first = String((await add('first'))['id'])
    next = String((await add('second'))['id'])
    const assign = ['site', 'assign']
    for (const number of [1, 2, 3]) {
      await netimageJson([...assign, mac(number), first, '--state', prepared])
    }
  })
  after(() => workspace.remove())

  function write(system: string, more = ''): void {
    writeFileSync(
      workspace.path('site.toml'),
      `
      [group.lab]
      system = "${system}"
      machines = ["pi1", "dc:a6:32:*"]
      waves = [["pi1"], "rest"]
      ${more}
      [machine.pi1]
      mac = "${mac(1)}"
    `,
    )
  }

  let states = 0
  function freshState(): string {
    const state = workspace.path(`state-${states++}`)
    cpSync(prepared, state, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    return state
  }

  const run = (state: string, ...args: string[]): Promise<Run> =>
    netimage(['site', ...args, '--state', state], { cwd: workspace.directory })

  async function planIn(state: string): Promise<string> {
    const file = workspace.path(`plan-${states}.json`)
    writeFileSync(file, (await run(state, 'plan', '--json')).stdout)
    return file
  }

  function look(state: string) {
    const site = openSiteToRead(state) ?? assert.fail()
    try {
      return {
        log: site.log({}).rows.map((row) => {
          if (!('entry' in row)) assert.fail(row.broken)
          return `${row.machine ?? 'site'}: ${saysWhat(row.entry, row.who)}`
        }),
        rollouts: site.rollouts(),
        names: [...site.names()],
        boots: [1, 2, 3].map((number) => {
          const life = site.lifeOf(mac(number))
          return generationOf(life, life.current)?.image
        }),
      }
    } finally {
      site.close()
    }
  }

  test('begins the roll-outs of a plan, whose images stay', async () => {
    write(next)
    const state = freshState()
    const before = look(state)
    const plan = String(parseObject((await run(state, 'plan', '--json')).stdout)['digest'])
    const applied = await run(state, 'apply', '--yes')
    assert.equal(applied.status, 0, applied.stderr)
    assert.match(applied.stdout, /wave 2 +dc:a6:32:00:00:02, dc:a6:32:00:00:03\n/)
    assert.match(
      applied.stdout,
      /\nroll-out 1 of lab has begun: 3 machines in 2 waves, first pi1\n/,
    )
    assert.match(applied.stdout, /nobody restarts pi1, dc:a6:32:00:00:02, dc:a6:32:00:00:03: /)
    assert.match(applied.stdout, /no server runs with this site/)
    const { log, names, rollouts, boots } = look(state)
    assert.deepEqual(names, [[mac(1), 'pi1']])
    assert.deepEqual(boots, [first, first, first])
    assert.partialDeepStrictEqual(rollouts.newest, [
      { number: 1, group: 'lab', state: 'running', candidate: { image: next } },
    ])
    assert.deepEqual(log.slice(before.log.length), [
      `${mac(1)}: gave it the name pi1`,
      `site: began roll-out 1 of lab by plan ${plan.slice(0, 12)}: image ${next.slice(0, 12)} (root)`,
    ])
    // No machine has it yet, and none gets it after an abort, but it is that of the group.
    await run(state, 'abort', 'lab')
    const collected = await run(state, 'gc', '--json')
    assert.partialDeepStrictEqual(parseObject(collected.stdout), { removedImages: [] })
  })

  test('has nothing to do while the roll-out goes on', async () => {
    write(next)
    const state = freshState()
    await run(state, 'apply', '--yes')
    const { log } = look(state)
    const again = await run(state, 'plan')
    assert.equal(again.status, 0, again.stderr)
    assert.match(again.stdout, /roll-out {2}1 is running\n/)
    const nothing = await run(state, 'apply', '--yes', '--json')
    assert.equal(nothing.status, 0, nothing.stderr)
    assert.partialDeepStrictEqual(parseObject(nothing.stdout), { begun: [], names: [] })
    assert.equal(look(state).log.length, log.length)
  })

  test('begins another roll-out if the file has other settings', async () => {
    write(next)
    const state = freshState()
    await run(state, 'apply', '--yes')
    write(next, 'keep = 5')
    const plan = await run(state, 'plan')
    assert.equal(plan.status, 2, plan.stderr)
    assert.match(plan.stdout, /begins in place of 1, which is running: other settings \(keep\)\n/)
    await run(state, 'apply', '--yes')
    assert.partialDeepStrictEqual(look(state).rollouts.newest, [{ number: 2, keep: 5 }])
    assert.match(look(state).log.at(-1) ?? '', /^site: began roll-out 2 .*; before: roll-out 1$/)
    // As the error of a broken row says.
    const database = new DatabaseSync(siteFile(state))
    database.exec("UPDATE rollouts SET rollout = '{' WHERE number = 2")
    database.close()
    const mended = await run(state, 'apply', '--yes')
    assert.match(mended.stdout, /a row of roll-out 2 of lab in .* is broken/)
    const { newest, broken } = look(state).rollouts
    assert.partialDeepStrictEqual([newest, broken], [[{ number: 3, keep: 5 }], []])
  })

  test('ends a broken roll-out of a group that the file does not have any more', async (context) => {
    write(next)
    const state = freshState()
    const { boots } = look(state)
    await run(state, 'apply', '--yes')
    await letServerRun(context, state)
    assert.notDeepEqual(look(state).boots, boots)
    const database = new DatabaseSync(siteFile(state))
    database.exec("UPDATE rollouts SET rollout = '{'")
    database.close()
    writeFileSync(workspace.path('site.toml'), '')
    const applied = await run(state, 'apply', '--yes')
    assert.equal(applied.status, 0, applied.stderr)
    // No machine boots an image that it has not tried, and nothing is left to mend.
    assert.deepEqual(look(state).boots, boots)
    assert.deepEqual(look(state).rollouts.broken, [])
    assert.equal((await run(state, 'plan')).status, 0)
    assert.equal((await run(state, 'status')).status, 0)
  })

  test('ends the roll-out of a group that the file does not have any more', async () => {
    write(next)
    const state = freshState()
    await run(state, 'apply', '--yes')
    writeFileSync(workspace.path('site.toml'), '')
    const applied = await run(state, 'apply', '--yes')
    assert.equal(applied.status, 0, applied.stderr)
    const { rollouts, log } = look(state)
    assert.deepEqual([rollouts.newest[0]?.state, rollouts.groups.size], ['aborted', 0])
    assert.match(log.at(-4) ?? '', /^site: aborted roll-out 1 of lab: the file of the site has no /)
    assert.equal(log.at(-1), `${mac(3)}: took it out of group lab`)
  })

  test('asks nobody without a terminal', async () => {
    write(next)
    const state = freshState()
    const before = look(state)
    assertFailed(await run(state, 'apply', '--json'), 'bad-usage')
    assert.deepEqual(look(state), before)
  })

  /** Starts the command on a terminal. It has asked when this resolves. */
  async function asked(state: string) {
    const words = [process.execPath, cli, 'site', 'apply', '--quiet', '--state', state]
    const line = words.map((word) => `'${word}'`).join(' ')
    const child = spawn(terminal, ['-qec', `stty -echo; ${line}`, '/dev/null'], {
      ...{ cwd: workspace.directory, stdio: ['pipe', 'pipe', 'inherit'] },
    })
    const { stdin, stdout } = child
    assert.ok(stdin && stdout)
    let printed = ''
    stdout.setEncoding('utf8').on('data', (text: string) => (printed += text))
    const closed = once(child, 'close')
    await waitUntil('it asks', () => printed.endsWith('Apply this plan? [y/N] '))
    return async (answer: string) => {
      stdin.end(`${answer}\n`)
      const [status] = await waitFor('the end', closed)
      return { status: Number(status), printed: printed.replaceAll('\r', '') }
    }
  }

  test('asks on a terminal, and only a yes counts', async () => {
    write(next)
    const state = freshState()
    const refused = await (await asked(state))('n')
    assert.equal(refused.status, 1, refused.printed)
    assert.match(refused.printed, /\[y\/N\] nothing was changed\n$/)
    assert.deepEqual(look(state).rollouts.newest, [])
    const agreed = await (await asked(state))('y')
    assert.equal(agreed.status, 0, agreed.printed)
    assert.equal(look(state).rollouts.newest.length, 1)
  })

  test('keeps the image from a garbage collection until the roll-out has begun', async () => {
    write(next)
    const state = freshState()
    const answer = await asked(state)
    const collected = await run(state, 'gc', '--json')
    assert.partialDeepStrictEqual(parseObject(collected.stdout), {
      ...{ removedImages: [], inUse: [next] },
    })
    assert.equal((await answer('y')).status, 0)
  })

  test('changes nothing if the site has changed since it asked, and lets one of two win', async () => {
    write(next)
    const state = freshState()
    const late = await asked(state)
    await run(state, 'assign', mac(2), next)
    const before = look(state)
    const stale = await late('y')
    assert.equal(stale.status, 5, stale.printed)
    assert.match(
      stale.printed,
      /\n {2}group lab: .*:02 boots generation 2 next, not generation 1 \[stale-plan\]\n/,
    )
    assert.deepEqual(look(state), before)
    const [one, other] = [await asked(state), await asked(state)]
    const ends = await Promise.all([one('y'), other('y')])
    assert.deepEqual(ends.map(({ status }) => `${status}`).toSorted(), ['0', '5'])
    const loser = ends.find(({ status }) => status === 5)
    assert.match(loser?.printed ?? '', /group lab: roll-out 1 has begun meanwhile\n/)
    assert.equal(look(state).log.filter((row) => row.includes('began')).length, 1)
  })

  test('refuses a plan that is not so any more, and says what has changed', async () => {
    write(next)
    const state = freshState()
    const plan = await planIn(state)
    await run(state, 'assign', mac(2), next)
    const before = look(state)
    const stale = await run(state, 'apply', '--plan', plan, '--json')
    assert.equal(stale.status, 5)
    const { message } = assertFailed(stale, 'stale-plan')
    assert.match(
      message,
      /\n {2}group lab: dc:a6:32:00:00:02 boots generation 2 next, not generation 1$/,
    )
    write(first, 'halt = { bad = 3 }')
    const other = assertFailed(await run(state, 'apply', '--plan', plan, '--json'), 'stale-plan')
    assert.match(other.message, /it is to get image .*\n.*\n.*it has other settings: halt$/)
    writeFileSync(plan, '{"error":{}}')
    assertFailed(await run(state, 'apply', '--plan', plan, '--json'), 'bad-option', {
      field: '--plan',
    })
    const none = workspace.path('none.json')
    assertFailed(await run(state, 'apply', '--plan', none, '--json'), 'path-not-found')
    assert.deepEqual(look(state), before)
  })

  test('takes a plan from the standard input', async () => {
    write(next)
    const state = freshState()
    const plan = await planIn(state)
    const line = `"${process.execPath}" "${cli}" site apply --plan - --state "${state}" < "${plan}"`
    const applied = shell(line, workspace.directory)
    assert.equal(applied.status, 0, applied.stderr)
  })

  test('has done all or nothing if it is killed', () => {
    write(next)
    let untouched = 0
    killAtEachStep({
      command: ['site', 'apply', '--yes', '--quiet'],
      cwd: workspace.directory,
      prepare() {
        const state = freshState()
        untouched = look(state).log.length
        return state
      },
      isDone(state, when) {
        const { log, names, rollouts, boots } = look(state)
        rmSync(state, { recursive: true })
        const rows = log.length - untouched
        const isAll = rows > 0
        const begun = rollouts.newest.length
        const expected = isAll ? [2, 1, 1, 3] : [0, 0, 0, 0]
        assert.deepEqual([rows, begun, names.length, rollouts.groups.size], expected, when)
        assert.deepEqual(boots, [first, first, first])
        return isAll
      },
    })
  })

  suite('--wait', () => {
    async function waiting(state: string, ...flags: string[]) {
      write(next)
      const started = startNetimage(
        ['site', 'apply', '--yes', '--wait', '--state', state, ...flags],
        { cwd: workspace.directory },
      )
      const { stdout } = started.child
      assert.ok(stdout)
      let printed = ''
      stdout.on('data', (text: string) => (printed += text))
      await waitUntil('the roll-out has begun', () => look(state).rollouts.newest.length > 0)
      return { ...started, printed: () => printed }
    }

    test('ends with 0 when the roll-out is done, also with machines that are away', async (context) => {
      const state = freshState()
      const { ended } = await waiting(state)
      const server = await serveRollouts(context, state)
      await server.boot(mac(1), 'good')
      // The server has not seen the other two since they got the image.
      const { status, stdout, stderr } = await waitFor('the end', ended)
      assert.equal(status, 0, stderr)
      assert.match(stdout, /roll-out 1 of lab begins wave 2: 2 machines\n/)
      assert.match(stdout, /\nroll-out 1 of lab is done; wave 2 of 2: 1 good, 2 waiting\n$/)
    })

    test('ends with 3 when the roll-out halts, and says why', async (context) => {
      const state = freshState()
      const { ended } = await waiting(state, '--json')
      const server = await serveRollouts(context, state)
      await server.boot(mac(1), 'bad')
      const { status, stdout, stderr } = await waitFor('the end', ended)
      assert.equal(status, 3, stderr)
      const lines = stdout.trimEnd().split('\n').map(parseObject)
      assert.partialDeepStrictEqual(lines[0], { begun: [{ group: 'lab', rollout: 1 }] })
      assert.partialDeepStrictEqual(lines.at(-1), {
        rollouts: [{ group: 'lab', rollout: 1, state: 'halted', counts: { bad: 1, pending: 2 } }],
      })
      assert.equal(look(state).boots[1], first)
      const nothing = await run(state, 'apply', '--yes')
      assert.equal(nothing.status, 0)
      assert.match(
        nothing.stdout,
        /nothing to apply\nroll-out 1 of lab is halted: pi1 is bad; see /,
      )
    })

    test('ends with Ctrl-C, and the roll-out goes on', async () => {
      const state = freshState()
      const { child, ended, printed } = await waiting(state)
      await waitUntil('it waits', () => printed().includes('wave 1 of 2'))
      child.kill('SIGINT')
      const { status, stderr } = await waitFor('the end', ended)
      assert.equal(status, 130)
      assert.match(stderr, /^error: stopped waiting; the roll-outs go on \[interrupted\]\n/)
      assert.equal(look(state).rollouts.newest[0]?.state, 'running')
    })

    test('tells what is missing by another status than 3', async () => {
      const state = freshState()
      write('/nowhere')
      const missing = await run(state, 'apply', '--yes', '--wait', '--json')
      assertFailed(missing, 'path-not-found')
      assert.equal(missing.status, 1)
    })
  })
})
