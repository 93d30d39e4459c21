// Debian's Chromium, and what it says of a page that it shows.

import assert from 'node:assert/strict'
import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import axe from 'axe-core'
import { chromium, type BrowserContext, type Page } from 'playwright-core'

/** The caller closes it. Its processes end with it. */
export async function startBrowser(): Promise<{
  browser: BrowserContext
  close: () => Promise<void>
}> {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-browser-'))
  const browser = await chromium.launchPersistentContext(directory, {
    executablePath: '/usr/bin/chromium',
    chromiumSandbox: false,
    args: [
      ...['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
      ...['--disable-component-update', '--disable-sync'],
    ],
  })
  return {
    browser,
    async close() {
      await browser.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

export interface Watched {
  page: Page
  /** All that it asks for must be at this address. */
  show: (url: string) => Promise<void>
  /** Fails if the page asked another server, or if the browser found an error in it. */
  check: () => void
  /** Errors of the network, which the test has made itself. */
  allowsNetworkErrors: () => void
}

export async function watchTab(browser: BrowserContext): Promise<Watched> {
  const page = await browser.newPage()
  const [errors, elsewhere] = [new Array<string>(), new Array<string>()]
  let isOffline = false
  let origin = ''
  page.on('pageerror', (error) => errors.push(error.message))
  page.on('console', (message) => {
    if (message.type() !== 'error' && message.type() !== 'warning') return
    if (isOffline && /ERR_|Failed to load resource/.test(message.text())) return
    errors.push(message.text())
  })
  page.on('request', (request) => {
    if (!request.url().startsWith(origin)) elsewhere.push(request.url())
  })
  return {
    page,
    async show(url) {
      origin = new URL(url).origin
      await page.goto(url)
    },
    check() {
      assert.deepEqual({ errors, elsewhere }, { errors: [], elsewhere: [] })
    },
    allowsNetworkErrors: () => void (isOffline = true),
  }
}

/** What axe finds in the page as it is shown now. */
export async function findBarriers(page: Page): Promise<string[]> {
  // The page's policy for scripts does not concern what a debugger runs.
  await page.evaluate(`${axe.source}; undefined`)
  const found: unknown = await page.evaluate(
    `axe.run(document).then(({ violations }) => violations.flatMap(({ id, nodes }) =>
      nodes.map(({ target, failureSummary }) => id + ' ' + target.join(' ') + ': ' + failureSummary)))`,
  )
  assert.ok(Array.isArray(found))
  return found.map(String)
}
