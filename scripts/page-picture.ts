/**
 * Makes the picture of the status page in the README, `docs/page.png`, from a made-up site. Needs Chromium.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { Boot } from '../src/boots/follow.ts'
import { startPage } from '../src/page/page.ts'
import { startRollouts } from '../src/serve/rollouts.ts'
import { openSite } from '../src/site/site.ts'
import { record } from '../test/page/support/boots.ts'
import { startBrowser } from '../test/page/support/browser.ts'
import {
  makeUpBoot,
  makeUpImage,
  makeUpRollout,
  makeUpSite,
  type MadeUpMachine,
} from '../test/page/support/made-up-site.ts'

const minute = 60_000
const state = mkdtempSync(join(tmpdir(), 'netimage-picture-'))

const machines = ['bench', 'bench', 'bench', 'bench', 'wall', 'wall'].map(
  (kind, at): MadeUpMachine => ({
    machine: `dc:a6:32:01:02:0${at + 1}`,
    name: `${kind}-${kind === 'wall' ? at - 3 : at + 1}`,
    group: kind === 'wall' ? 'displays' : 'lab',
  }),
)
const named = (name: string) =>
  machines.find((each) => each.name === name)?.machine ?? assert.fail(name)

const old = makeUpImage(state, 'lab', '26.05.20261102')
const other = makeUpImage(state, 'lab', '26.05.20261128')
await makeUpSite(state, machines, old)
makeUpRollout(state, [[named('bench-1')], ['bench-2', 'bench-3', 'bench-4'].map(named)], {
  ...{ group: 'lab', candidate: other },
})

const boots = machines.map(({ machine }, at): Boot => {
  const slower = (step: number) => 0.9 + ((at * 3 + step * 5) % 7) / 20
  return {
    ...makeUpBoot(machine, Date.now() - (90 - at) * minute, slower),
    address: `10.0.0.2${at}`,
  }
})
boots[4] = { ...(boots[4] ?? assert.fail()), trouble: 'config.txt: the transfer timed out' }
const onError = (error: Error) => assert.ifError(error)
let at = Date.now()
const site = openSite({ state, at, onTold: () => {}, onError })
const rollouts = await startRollouts({ state, onTold: () => {}, onError })
const page = await startPage({
  ...{ state, boots: () => boots, names: [], operations: () => ({}), onError },
  ...{ host: '127.0.0.1', port: 0 },
})
const { browser, close } = await startBrowser()
try {
  const tab = await browser.newPage()
  await tab.setViewportSize({ width: 1280, height: 720 })
  await tab.goto(`${page.url}#/rollouts/lab`)
  const says = (text: string) =>
    tab.locator('article').getByText(text).first().waitFor({ timeout: 8000 })
  await says('wave 1 of 2')
  const first = named('bench-1')
  await bootInto(first)
  record(state, [[boots[0] ?? assert.fail(), { kind: 'root', step: 'registered', mac: first }]])
  await says('wave 2 of 2')
  boots[0] = { ...makeUpBoot(first, Date.now() - 3 * minute), address: '10.0.0.20' }
  for (const { machine } of machines) site.sign(machine, { kind: 'alive' }, (at += minute))
  site.tick((at += minute))
  await says('3 next')
  const second = named('bench-2')
  await site.beginAttempt(second, at)
  site.sign(second, { kind: 'asks' }, at)
  site.sign(second, { kind: 'step', step: 'mount' }, at)
  const started = Date.now() - 15_000
  const { steps } = makeUpBoot(second, started)
  const { registered: _, init: _init, ...reached } = steps
  boots[1] = {
    ...{ machine: second, address: '10.0.0.21', started, step: 'mount', steps: reached },
    ...{ lastSign: started + 13_000, bytes: 58_000_000 },
  }
  await says('1 booting')
  await tab.goto(`${page.url}#/machines`)
  await tab.getByText('root mounted for').waitFor()
  const table = await tab.locator('body').screenshot()
  await tab.goto(`${page.url}#/machines/${first}`)
  await tab.getByRole('img', { name: 'Boots to scale' }).waitFor()
  const chart = await tab.locator('#machine .chart').screenshot()
  await tab.goto('about:blank')
  const [upper, lower] = [table, chart].map((picture) => picture.toString('base64'))
  await tab.setContent(
    `<body style="margin:0;width:1280px"><img id="table" src="data:image/png;base64,${upper}">
     <img id="chart" style="margin:0 16px 16px" src="data:image/png;base64,${lower}"></body>`,
  )
  await tab.locator('body').screenshot({ path: join(import.meta.dirname, '../docs/page.png') })
} finally {
  await close()
  await page.close()
  await rollouts.close()
  site.close(at)
  rmSync(state, { recursive: true })
}

/** The machine starts in what it is given, and is up for long. */
async function bootInto(machine: string): Promise<void> {
  await site.beginAttempt(machine, at)
  site.sign(machine, { kind: 'asks' }, at)
  const { toplevel } = site.currentAttempt(machine)?.generation ?? assert.fail()
  site.sign(machine, { kind: 'bless', bootId: 'picture', toplevel }, at)
  for (let minutes = 0; minutes < 5; minutes++) site.tick((at += minute))
}
