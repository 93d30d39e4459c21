// Sites whose machines do what a test says.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { startRollouts } from '../../../src/serve/rollouts.ts'
import { generationOf } from '../../../src/site/life/life.ts'
import { openSite, type Site } from '../../../src/site/site.ts'
import { candidate } from '../../site/life/support/simulate.ts'

/** A new site in which the machine has a good generation; its images are `a` and `b`. The caller closes it. */
export async function openSiteWithGood(state: string, machine: string, at: number): Promise<Site> {
  for (const image of ['a', 'b']) mkdirSync(join(state, 'images', image), { recursive: true })
  const policy = { tries: 3, deadline: 600_000, settle: 0 }
  const site = openSite({ state, at, policy, onTold: () => {}, onError: assert.ifError })
  await site.beginAttempt(machine, at, { byDefault: candidate('a') })
  site.sign(machine, { kind: 'bless', bootId: 'x', toplevel: candidate('a').toplevel }, at)
  site.tick(at)
  return site
}

/** Serves a site without protocols, until the test ends or closes it. No error may be told. */
export async function serveRollouts(context: TestContext, state: string) {
  let at = Date.now()
  const errors: string[] = []
  const onError = (error: Error) => void errors.push(error.message)
  const site = openSite({ state, at, onTold: () => {}, onError })
  const rollouts = await startRollouts({ state, onTold: () => {}, onError })
  let isOpen = true
  async function close(): Promise<void> {
    if (!isOpen) return
    isOpen = false
    await rollouts.close()
    site.close(at)
    assert.deepEqual(errors, [])
  }
  context.after(close)
  return {
    close,
    /** The machine starts, and is up for long, or crashes again and again. */
    async boot(machine: string, outcome: 'good' | 'bad') {
      for (let attempt = 0; attempt < (outcome === 'good' ? 1 : 4); attempt++) {
        await site.beginAttempt(machine, (at += 1000))
        site.sign(machine, { kind: 'asks' }, at)
      }
      if (outcome === 'bad') return
      const { toplevel } = site.currentAttempt(machine)?.generation ?? assert.fail()
      site.sign(machine, { kind: 'bless', bootId: `${at}`, toplevel }, at)
      for (let minutes = 0; minutes < 5; minutes++) site.tick((at += 60_000))
    },
    nextOf(machine: string) {
      const life = site.lifeOf(machine)
      return generationOf(life, life.current)?.image
    },
  }
}
