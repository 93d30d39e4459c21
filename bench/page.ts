/**
 * How long Chromium needs for the status page of a site with many machines, on a made-up site in which no machine
 * boots. Needs Debian's chromium.
 *
 *     node bench/page.ts [MACHINES] [ROUNDS]
 */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { CDPSession, Page } from 'playwright-core'

import { startPage } from '../src/page/page.ts'
import { startBrowser } from '../test/page/support/browser.ts'
import { makeUpBoot, makeUpImage, makeUpSite } from '../test/page/support/made-up-site.ts'

const [count = 1000, rounds = 5] = process.argv.slice(2).map(Number)
const state = mkdtempSync(join(tmpdir(), 'netimage-bench-page-'))
const onError = (error: Error) => assert.ifError(error)

const machines = Array.from({ length: count }, (_, at) => {
  const digits = at.toString(16).padStart(4, '0')
  const machine = `02:00:00:00:${digits.slice(0, 2)}:${digits.slice(2)}`
  return { machine, name: `machine-${at}`, group: `group-${at % 10}` }
})
await makeUpSite(state, machines, makeUpImage(state, 'lab', '26.05.20261102'))
const boots = machines.map(({ machine }) => makeUpBoot(machine, Date.now() - 3_600_000))
const page = await startPage({
  ...{ state, boots: () => boots, names: [], operations: () => ({}), onError },
  ...{ host: '127.0.0.1', port: 0 },
})
const { browser, close } = await startBrowser()
console.log(`${new Date().toISOString()}, ${cpus().length} processors, load ${load()}`)
try {
  const figures = new Map<string, number[]>()
  const note = (name: string, value: number) =>
    void figures.set(name, [...(figures.get(name) ?? []), value])
  for (let round = 0; round < rounds; round++) await measure(note)
  for (const [name, values] of figures) {
    const sorted = values.toSorted((one, other) => one - other)
    const [least, median, most] = [sorted[0], sorted[Math.floor(sorted.length / 2)], sorted.at(-1)]
    console.log(`${name}: ${[median, least, most].map((each) => Math.round(each ?? 0)).join(', ')}`)
  }
  console.log(`median, least, most; ${count} machines, ${rounds} rounds; load ${load()}`)
} finally {
  await close()
  await page.close()
  rmSync(state, { recursive: true })
}

async function measure(note: (name: string, value: number) => void): Promise<void> {
  const tab = await browser.newPage()
  await tab.setViewportSize({ width: 1280, height: 800 })
  const session = await browser.newCDPSession(tab)
  await session.send('Performance.enable')
  await tab.goto(page.url)
  await until(tab, `document.querySelectorAll('#machines-rows tr').length === ${count}`)
  note('all rows are there, ms', await number(tab, 'performance.now()'))
  const paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
  note('first paint, ms', await number(tab, paint))
  note('busy until then, ms', await busyMs(session))
  for (const changed of [1, 100, count]) {
    const before = await busyMs(session)
    const started = Date.now() - 60_000 * (1 + Math.random() * 600)
    for (let at = 0; at < changed; at++) {
      boots[at] = makeUpBoot(machines[at]?.machine ?? assert.fail(), started, () => 2 + changed)
    }
    const shown = `document.querySelector('#machines-rows tr:nth-child(${changed})').textContent`
    const old = await tab.evaluate(shown)
    await until(tab, `${shown} !== ${JSON.stringify(old)}`)
    note(`busy for ${changed} changed, ms`, (await busyMs(session)) - before)
  }
  await tab.close()
}

async function until(tab: Page, expression: string): Promise<void> {
  // The page's policy forbids that Playwright waits in the page itself.
  while ((await tab.evaluate(expression)) !== true) await sleep(50)
}

async function number(tab: Page, expression: string): Promise<number> {
  return Number(await tab.evaluate(expression))
}

/** The time in which the tab's main thread was busy. */
async function busyMs(session: CDPSession): Promise<number> {
  const { metrics } = await session.send('Performance.getMetrics')
  return (metrics.find(({ name }) => name === 'TaskDuration')?.value ?? assert.fail()) * 1000
}

function load(): string {
  return loadavg()
    .map((each) => each.toFixed(1))
    .join(' ')
}
