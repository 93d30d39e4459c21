// The status page in a real browser. One browser shows all of it.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, suite, test, type TestContext } from 'node:test'
import type { BrowserContext, Page } from 'playwright-core'
import type { Boot } from '../../src/boots/follow.ts'
import { serveRollouts } from '../commands/support/rollout-server.ts'
import { begunRollout } from '../serve/support/begun-rollout.ts'
import { netimageJson } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { bootOf, record } from './support/boots.ts'
import { findBarriers, startBrowser, watchTab } from './support/browser.ts'
import { watchEvents } from './support/events.ts'
import { openPage } from './support/open-page.ts'

const freshName = freshNames(temporaryDirectory())
const [mac, other, third] = ['dc:a6:32:01:02:03', 'dc:a6:32:01:02:04', 'dc:a6:32:01:02:05']
const oneMinute = 60_000

let browser: BrowserContext
let close: () => Promise<void>

before(async () => {
  ;({ browser, close } = await startBrowser())
})
after(() => close())

interface Opened {
  state: string
  boots: Boot[]
  page: Page
  url: string
  allowsNetworkErrors: () => void
  closePage: () => Promise<void>
}

/** At the end of the test, the page must not have asked other servers, and had no errors. */
async function open(
  context: TestContext,
  boots: Boot[] = [],
  machines: readonly string[] = [mac, other],
): Promise<Opened> {
  const { page, show, check, allowsNetworkErrors } = await watchTab(browser)
  // Before the server ends, which the page would say.
  context.after(() => page.close())
  const state = await begunRollout(freshName(), machines)
  await netimageJson(['site', 'name', mac, 'pi1', '--state', state])
  const { url, close } = await openPage(context, state, () => boots)
  context.after(check)
  page.setDefaultTimeout(20_000)
  await show(url)
  return { ...{ state, boots, page, url, allowsNetworkErrors }, closePage: close }
}

function row(page: Page, name: string) {
  return page.getByRole('row').filter({ has: page.getByRole('link', { name, exact: true }) })
}

/** As if the person looked at another tab, or came back: a browser without a window shows all of its tabs. */
async function setHidden(page: Page, isHidden: boolean): Promise<void> {
  await page.evaluate(
    `Object.defineProperty(document, 'hidden', { value: ${isHidden}, configurable: true })
     document.dispatchEvent(new Event('visibilitychange'))`,
  )
}

suite('the status page in Chromium', () => {
  test('shows a boot as it happens, beside the one before and what is usual, and keeps the focus', async (context) => {
    const started = Date.now() - 5000
    const boot = bootOf(mac, {
      started,
      step: 'kernel',
      steps: { dhcp: started, kernel: started + 1000 },
      lastSign: started + 1000,
    })
    const { state, boots, page } = await open(context, [bootOf(other)])
    const earlier = started - oneMinute
    const before = bootOf(mac, {
      started: earlier,
      steps: { dhcp: earlier, kernel: earlier + 1000, registered: earlier + 9000 },
      lastSign: earlier + 9000,
    })
    record(state, [[before, { kind: 'root', step: 'registered', mac }]])
    const link = row(page, 'pi1').getByRole('link')
    await link.focus()
    boots.push(boot)
    await row(page, 'pi1').getByText('kernel for').waitFor()
    assert.equal(await page.evaluate('document.activeElement.innerText'), 'pi1')

    await page.keyboard.press('Enter')
    await page.getByRole('heading', { level: 1, name: 'pi1' }).waitFor()
    assert.match(page.url(), /#\/machines\/dc/)
    const chart = page.getByRole('img', { name: /^Boots to scale\. This boot: kernel for/ })
    await chart.waitFor()
    boot.steps.registered = started + 5000
    boot.step = 'registered'
    boot.lastSign = started + 5000
    await page
      .getByRole('img', { name: /This boot: up in 5\.0 s; The one before: up in 9\.0 s/ })
      .waitFor()
    // To scale: four of five seconds.
    const widths = await page.evaluate(
      `[...document.querySelector('.timeline > g:not(.axis)').querySelectorAll('.part')]
        .map((part) => part.getBoundingClientRect().width)`,
    )
    assert.ok(Array.isArray(widths))
    const [dhcp, kernel] = widths.map(Number)
    assert.ok(dhcp && kernel && Math.abs(kernel / dhcp - 4) < 0.1, String(widths))
    const table = page.getByRole('table', { name: 'How long each step took' })
    assert.deepEqual(await table.getByRole('row', { name: /^kernel/ }).allInnerTexts(), [
      'kernel\t4.0 s\t8.0 s\t6.0 s',
    ])
    await page.locator('#announcer').getByText('pi1: up').waitFor({ state: 'attached' })

    await page.getByRole('table', { name: 'The last boots' }).getByRole('link').last().click()
    const older = page.getByRole('img', {
      name: /^Boots to scale\. That boot: up in 9\.0 s; Usual/,
    })
    await older.waitFor()
    assert.match(page.url(), new RegExp(`/boots/${earlier}$`))
  })

  test('tells why a roll-out has halted, and what to do, in the words of the command', async (context) => {
    const { state, page, url } = await open(context)
    await page.goto(`${url}#/rollouts/lab`)
    await page.getByRole('heading', { name: 'Group lab running' }).waitFor()
    const server = await serveRollouts(context, state)
    await server.boot(mac, 'bad')
    await page.getByRole('heading', { name: 'Group lab halted' }).waitFor()
    const { groups } = await netimageJson(['site', 'status', 'lab', '--state', state])
    assert.ok(Array.isArray(groups))
    const text = await page.locator('article').innerText()
    assert.ok(text.includes(`is halted: ${groups[0].reason}`), text)
    assert.match(text, /see why pi1 failed \(netimage site status MACHINE\)/)
    assert.match(text, /Wave 1 \(2 machines\): 1 bad, 1 \w+/)
    await page.locator('#announcer').getByText('of lab is halted').waitFor({ state: 'attached' })

    await page.getByRole('link', { name: 'Log' }).click()
    await page.locator('#log-rows li').filter({ hasText: 'roll-out 1 of lab' }).first().waitFor()
  })

  test('shows what machines say as text, without what controls its direction', async (context) => {
    const hostile = '<img src=x onerror=alert(1)>\u202E\u0007"\'&{{7*7}}'
    const boot = bootOf(other, { trouble: hostile })
    const stranger = bootOf(hostile, { address: hostile })
    const { page } = await open(context, [boot, stranger])
    const shown = '<img src=x onerror=alert(1)>??"\'&{{7*7}}'
    await row(page, other).getByText(shown).waitFor()
    await page.getByRole('listitem').filter({ hasText: shown }).waitFor()
    await row(page, other).getByRole('link').click()
    await page.getByRole('table', { name: 'The last boots' }).getByText(shown).waitFor()
    assert.equal(await page.locator('main img').count(), 0)
  })

  test('filters by text, group and state, and its address brings the filter back', async (context) => {
    const { page } = await open(context, [], [mac, other, third])
    await page.getByText('3 machines').waitFor()
    await page.getByLabel('Text').fill('pi1')
    await page.getByText('1 of 3 machines').waitFor()
    assert.match(page.url(), /text=pi1/)
    await page.reload()
    await page.getByText('1 of 3 machines').waitFor()
    await page.getByLabel('Text').fill('')
    await page.getByLabel('Group').selectOption('lab')
    await page.getByLabel('State').selectOption('booting')
    await page.getByText('0 of 3 machines').waitFor()
  })

  test('says that its data are old while the server is gone, and goes on when it is back', async (context) => {
    const { state, boots, page, url, allowsNetworkErrors, closePage } = await open(context)
    const connection = page.locator('#connection')
    await connection.getByText('Live').waitFor()
    // Then nothing is left to read, and only the end of the events can tell.
    boots.push(bootOf(other))
    await row(page, other).getByText('since').waitFor()
    allowsNetworkErrors()
    await closePage()
    await connection.getByText('No connection: this is from').waitFor()
    assert.equal(await row(page, 'pi1').count(), 1)
    boots.push(bootOf(mac))
    await openPage(context, state, () => boots, { port: Number(new URL(url).port) })
    await connection.getByText('Live').waitFor()
    await row(page, 'pi1').getByText('since').waitFor()
  })

  test('has the rows that the log got while there was no connection', async (context) => {
    const { state, page, url, allowsNetworkErrors, closePage } = await open(context)
    await page.goto(`${url}#/log`)
    const rows = page.locator('#log-rows li')
    await rows.first().waitFor()
    const connection = page.locator('#connection')
    await connection.getByText('Live').waitFor()
    allowsNetworkErrors()
    await closePage()
    await connection.getByText('No connection: this is from').waitFor()
    await netimageJson(['site', 'hold', mac, '--state', state])
    await openPage(context, state, () => [], { port: Number(new URL(url).port) })
    await rows.filter({ hasText: 'held' }).waitFor()
  })

  test('shows that a roll-out cannot be read any more, and that it can', async (context) => {
    const { state, page, url } = await open(context)
    await page.goto(`${url}#/rollouts`)
    await page.getByRole('heading', { name: /lab/ }).waitFor()
    await page.locator('#connection').getByText('Live').waitFor()
    const database = new DatabaseSync(join(state, 'site.sqlite'))
    database.exec("UPDATE rollouts SET rollout = '{'")
    await page.getByText('[bad-state]').waitFor()
    database.exec('DELETE FROM rollouts')
    database.close()
    await page.getByText('[bad-state]').waitFor({ state: 'detached' })
  })

  test('is shown in more tabs than a browser has connections', async (context) => {
    const { state, page, url } = await open(context)
    const tabs = [page]
    for (let count = 0; count < 7; count++) {
      const before = tabs.at(-1) ?? page
      await before.locator('#connection').getByText('Live').waitFor()
      await setHidden(before, true)
      const { page: next, show } = await watchTab(browser)
      context.after(() => next.close())
      await show(url)
      tabs.push(next)
    }
    await tabs.at(-1)?.locator('#connection').getByText('Live').waitFor()

    await netimageJson(['site', 'name', other, 'pi2', '--state', state])
    await setHidden(page, false)
    await row(page, 'pi2').waitFor()
  })

  test('tells what the server cannot read, and goes on when it can', async (context) => {
    const { boots, page, allowsNetworkErrors } = await open(context)
    const connection = page.locator('#connection')
    await connection.getByText('Live').waitFor()
    allowsNetworkErrors()
    const error = { code: 'site-damaged', message: 'the site is <b>damaged</b>', hint: 'Mend it.' }
    await page.route('**/api/machines?*', (route) =>
      route.fulfill({ status: 503, json: { error } }),
    )
    boots.push(bootOf(mac))
    const alert = page.getByRole('alert')
    await alert.getByText('the site is <b>damaged</b> [site-damaged] Mend it.').waitFor()
    await connection.getByText('Old data: this is from').waitFor()
    await page.unroute('**/api/machines?*')
    await row(page, 'pi1').getByText('since').waitFor()
    await connection.getByText('Live').waitFor()
    assert.equal(await alert.textContent(), '')

    await page.route('**/api/machines/*', (route) =>
      route.fulfill({ status: 503, json: { error } }),
    )
    await row(page, 'pi1').getByRole('link').click()
    await page.getByText('the site is <b>damaged</b>. Mend it.').waitFor()
    await page.unroute('**/api/machines/*')
    await page.getByRole('heading', { name: 'Boots', exact: true }).waitFor()
  })

  test('is shown to one more than the server tells of changes, who learns why', async (context) => {
    const { state, page, url, allowsNetworkErrors } = await open(context)
    await page.locator('#connection').getByText('Live').waitFor()
    await page.goto('about:blank')
    for (let count = 0; count < 32;) {
      const { status, close } = await watchEvents(context, new URL('/api/events', url))
      // The server has not noticed yet that the page has gone.
      if (status === 200) count++
      else close()
    }
    await netimageJson(['site', 'name', other, 'pi2', '--state', state])
    allowsNetworkErrors()
    await page.goto(url)
    await page.getByRole('alert').getByText('[too-many-listeners]').waitFor()
    await row(page, 'pi2').waitFor()
    await page.locator('#connection').getByText('Old data: this is from').waitFor()
  })

  test('has no barriers that axe finds, on a computer and on a telephone, in light and in dark', async (context) => {
    const trouble = 'x.img: there is no such file'
    const boots = [bootOf(mac), bootOf(other, { trouble }), bootOf(third)]
    const { state, page, url } = await open(context, boots)
    record(state, [[boots[0] ?? assert.fail(), { kind: 'root', step: 'registered', mac }]])
    const places = ['#/machines', `#/machines/${mac}`, '#/rollouts/lab', '#/log']
    const looks = ([1200, 360] as const).flatMap((width) =>
      (['light', 'dark'] as const).map((colorScheme) => ({ width, colorScheme })),
    )
    for (const { width, colorScheme } of looks) {
      await page.setViewportSize({ width, height: 740 })
      await page.emulateMedia({ colorScheme })
      for (const place of places) {
        await page.goto(`${url}${place}`)
        await page
          .locator('main section:not([hidden]) :is(tbody tr, .waves li, .log li)')
          .first()
          .waitFor()
        assert.deepEqual(await findBarriers(page), [], `${place} ${width} ${colorScheme}`)
        const wide = await page.evaluate('document.documentElement.scrollWidth')
        assert.ok(Number(wide) <= width, `${place} is ${String(wide)} wide`)
      }
    }
  })

  test('is used with the keyboard alone', async (context) => {
    const { page } = await open(context)
    await row(page, 'pi1').waitFor()
    const reached: string[] = []
    for (let count = 0; count < 10; count++) {
      await page.keyboard.press('Tab')
      reached.push(
        String(
          await page.evaluate('document.activeElement.name || document.activeElement.innerText'),
        ),
      )
    }
    assert.deepEqual(reached, [
      ...['Skip to the content', 'netimage', 'Machines', 'Roll-outs', 'Log'],
      ...['text', 'group', 'state', other, 'pi1'],
    ])
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { level: 1, name: 'pi1' }).waitFor()
    assert.equal(await page.evaluate('document.activeElement.id'), 'machine-title')
  })
})
