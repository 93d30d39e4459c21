// Several processes of one server have its site open, each with some of the machines.

import assert from 'node:assert/strict'
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { after, suite, test } from 'node:test'
import { openSiteToRead } from '../../src/site/database.ts'
import { lastAttempt, type Life } from '../../src/site/life/life.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitFor } from '../support/waiting.ts'
import { minutes } from './life/support/simulate.ts'
import type { Done, Order } from './support/site-process.ts'

const freshName = freshNames(temporaryDirectory())
const program = fileURLToPath(new URL('support/site-process.ts', import.meta.url))
const seconds = 1000

interface SiteProcess {
  name: string
  do(order: Order): Promise<Done>
  /** Kills the process, and starts another one of the same name. */
  killAndStart(): Promise<void>
}

function startProcess(name: string): SiteProcess {
  let child = start()

  function start() {
    const process: ChildProcess = fork(program, [name])
    return { process, ready: once(process, 'message') }
  }

  async function kill(): Promise<void> {
    const ended = once(child.process, 'exit')
    child.process.kill('SIGKILL')
    await waitFor(`${name} ends`, ended)
  }

  after(kill)
  return {
    name,
    async do(order) {
      await waitFor(`${name} starts`, child.ready)
      const answer = once(child.process, 'message')
      child.process.send(order)
      const [done]: Done[] = await waitFor(`${name} answers ${order.do}`, answer)
      assert.ok(done)
      assert.equal(done.error, undefined)
      return done
    },
    async killAndStart() {
      await kill()
      child = start()
    },
  }
}

const [a, b] = [startProcess('a'), startProcess('b')]

function read(state: string) {
  const reader = openSiteToRead(state)
  try {
    const lives = new Map<string, Life>()
    for (const life of reader?.lives(assert.fail) ?? []) lives.set(life.machine, life)
    return { uptime: reader?.uptime(), lives }
  } finally {
    reader?.close()
  }
}

const attemptIn = (state: string, machine: string) => {
  const life = read(state).lives.get(machine)
  return life && lastAttempt(life)
}

suite('a site of several processes', () => {
  test('can be made by all of them at once', async () => {
    const processes = [a, b]
    for (let time = 0; time < 10; time++) {
      const state = freshName()
      await Promise.all(processes.map((each) => each.do({ do: 'open', state, at: 0 })))
      const begin = ({ name }: SiteProcess): Order => ({ do: 'begin', machine: name, at: 0 })
      await Promise.all(processes.map((each) => each.do(begin(each))))
      assert.deepEqual([...read(state).lives.keys()], ['a', 'b'])
      await Promise.all(processes.map((each) => each.do({ do: 'close', at: 0 })))
    }
  })

  test('goes on for the machines of the others if one is killed and starts again', async () => {
    const state = freshName()
    for (const each of [a, b]) {
      await each.do({ do: 'open', state, at: 0 })
      await each.do({ do: 'begin', machine: `${each.name}1`, at: 0 })
      await each.do({ do: 'asks', machine: `${each.name}1`, at: 0 })
    }
    await b.killAndStart()
    const { interrupted } = await b.do({ do: 'open', state, at: 10 * seconds })
    assert.deepEqual(interrupted, ['b1'])
    assert.equal(attemptIn(state, 'a1')?.unseenFrom, undefined)
    assert.equal(attemptIn(state, 'b1')?.unseenFrom, 0)

    // Only the process that serves a machine decides that it is too late.
    assert.deepEqual((await b.do({ do: 'tick', at: 10 * seconds })).told, [])
    await a.do({ do: 'blesses', machine: 'a1', at: 20 * seconds })
    const told: string[] = []
    for (let at = 30 * seconds; at <= 3 * minutes; at += 30 * seconds) {
      told.push(...(await b.do({ do: 'tick', at })).told)
      told.push(...(await a.do({ do: 'tick', at })).told)
    }
    assert.deepEqual(told, ['a1 good'])
    assert.equal(attemptIn(state, 'b1')?.outcome, 'running')
  })

  test('logs what all of them do in one order', async () => {
    const state = freshName()
    for (const each of [a, b]) await each.do({ do: 'open', state, at: 0 })
    const begun: string[] = []
    for (let number = 0; number < 5; number++) {
      for (const each of [a, b]) {
        const machine = `${each.name}${number}`
        await each.do({ do: 'begin', machine, at: 0 })
        begun.push(machine)
      }
    }
    const manyAtOnce = [a, b].map(async (each) => {
      for (let number = 5; number < 15; number++)
        await each.do({ do: 'begin', machine: `${each.name}${number}`, at: 0 })
    })
    await Promise.all(manyAtOnce)
    const reader = openSiteToRead(state)
    const { rows } = reader?.log({}) ?? assert.fail()
    reader?.close()
    const machines = rows.map((row) => ('entry' in row ? row.machine : row.broken))
    assert.deepEqual(machines.slice(0, begun.length), begun)
    assert.equal(new Set(machines).size, 30)
    assert.deepEqual(
      rows.map(({ number }) => number),
      rows.map((_, place) => place + 1),
    )
    for (const each of [a, b]) await each.do({ do: 'close', at: 0 })
  })

  test('counts its time once, and never goes back', async () => {
    const state = freshName()
    const uptime = () => read(state).uptime
    await a.do({ do: 'open', state, at: 0 })
    await a.do({ do: 'begin', machine: 'a1', at: 0 })
    // Meanwhile `a` has written nothing, so `b` begins with the uptime of 50 seconds ago.
    await b.do({ do: 'open', state, at: 50 * seconds })
    await a.do({ do: 'tick', at: 55 * seconds })
    assert.equal(uptime(), 55 * seconds)
    await b.do({ do: 'begin', machine: 'b1', at: 60 * seconds })
    assert.equal(uptime(), 55 * seconds)
    assert.equal(attemptIn(state, 'b1')?.from, 55 * seconds)
    for (let at = 70 * seconds; at <= 5 * minutes; at += 10 * seconds) {
      await a.do({ do: 'tick', at })
      await b.do({ do: 'tick', at })
      assert.equal(uptime(), at)
    }
    await a.do({ do: 'close', at: 5 * minutes })
    await b.do({ do: 'tick', at: 6 * minutes })
    assert.equal(uptime(), 6 * minutes)
  })

  test('sees a power cut by the machines of all of them', async () => {
    const state = freshName()
    const start = async (at: number) => {
      const told: string[] = []
      for (const each of [a, b]) {
        for (const number of [1, 2]) {
          const machine = `${each.name}${number}`
          told.push(...(await each.do({ do: 'begin', machine, at })).told)
          await each.do({ do: 'asks', machine, at })
        }
      }
      return told.filter((text) => text.endsWith('void'))
    }
    for (const each of [a, b]) await each.do({ do: 'open', state, at: 0 })
    assert.deepEqual(await start(0), [])
    const excused = ['a1', 'a2', 'b1', 'b2'].map((machine) => `${machine} attempt void`)
    assert.deepEqual(await start(1 * minutes), excused)
  })
})
