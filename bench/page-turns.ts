/**
 * Finds for how long those who read the status page keep the machines of a server waiting, on a made-up site in which
 * no machine boots.
 *
 *     node bench/page-turns.ts [MACHINES] [STRANGERS]
 *
 * This process is the server, and one of its threads asks for one path after the other. For each, it prints the longest
 * time between two turns of the event loop, and the processor time in the busiest of these times, as medians. On a busy
 * machine, only the processor time means something.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'

import type { Boot } from '../src/boots/follow.ts'
import { startPage } from '../src/page/page.ts'
import { makeUpBoot, makeUpImage, makeUpSite } from '../test/page/support/made-up-site.ts'
import { beginTable, measured, median } from './report.ts'
import { watchTurns } from './turns.ts'

const [count = 1000, strangers = 4096] = process.argv.slice(2).map(Number)
const rounds = 5
/** What was seen a moment ago counts as now. Milliseconds. */
const momentMs = 300
const paths = ['/api/machines', '/api/groups', '/metrics', '/api/log?number=500']

const state = mkdtempSync(join(tmpdir(), 'netimage-bench-page-'))
const machines = Array.from({ length: count }, (_, at) => {
  return { machine: macOf('02:00:00:00', at), name: `machine-${at}`, group: `group-${at % 10}` }
})
await makeUpSite(state, machines, makeUpImage(state, 'lab', '26.05.20261102'))
const started = Date.now() - 3_600_000
const bootsOfMachines = machines.map(({ machine }) => makeUpBoot(machine, started))
const bootsOfStrangers = Array.from({ length: strangers }, (_, at) =>
  makeUpBoot(macOf('02:00:00:01', at), started),
)
let boots: readonly Boot[] = bootsOfMachines
const page = await startPage({
  ...{ state, boots: () => boots, names: [], operations: () => ({}) },
  ...{ host: '127.0.0.1', port: 0, onError: assert.ifError },
})
/** Another thread, whose time does not count. */
const client = new Worker(
  `const { parentPort } = require('node:worker_threads')
  parentPort.on('message', async (url) => {
    const response = await fetch(url)
    await response.arrayBuffer()
    parentPort.postMessage(response.status)
  })`,
  { eval: true },
)
try {
  await measured(measureAll)
} finally {
  await client.terminate()
  await page.close()
  rmSync(state, { recursive: true })
}

async function measureAll(): Promise<void> {
  const columns = ['longest turn', 'its processor time']
  const printRow = beginTable(`${count} machines, ${rounds} rounds`, columns)
  for (const [others, all] of [
    ['', bootsOfMachines],
    [`, and ${strangers} strangers`, [...bootsOfMachines, ...bootsOfStrangers]],
  ] as const) {
    boots = all
    for (const path of paths) {
      await ask(path)
      for (const isNew of [false, true]) {
        const figures = await measure(path, isNew)
        const name = `${path}${others}; ${isNew ? 'all has changed' : 'nothing has changed'}`
        printRow(
          name,
          figures.map((figure) => `${figure.toFixed(1)} ms`),
        )
      }
    }
  }
}

async function measure(path: string, isNew: boolean): Promise<number[]> {
  const turns = []
  for (let round = 0; round < rounds; round++) {
    await sleep(momentMs)
    if (isNew) for (const boot of boots) boot.bytes++
    const end = watchTurns()
    await ask(path)
    turns.push(end())
  }
  return [median(turns.map(({ longest }) => longest)), median(turns.map(({ busiest }) => busiest))]
}

async function ask(path: string): Promise<void> {
  client.postMessage(new URL(path, page.url).href)
  const [status]: unknown[] = await once(client, 'message')
  assert.equal(status, 200)
}

function macOf(first: string, at: number): string {
  const digits = at.toString(16).padStart(4, '0')
  return `${first}:${digits.slice(0, 2)}:${digits.slice(2)}`
}
