// A server without protocols, whose machines do what a test says.

import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { startRollouts } from '../../../src/serve/rollouts.ts'
import { defaultPolicy } from '../../../src/site/life/life.ts'
import { openSite } from '../../../src/site/site.ts'

/** Starts the server and ends it: the roll-outs do what they can do while no machine boots. */
export async function letServerRun(context: TestContext, state: string): Promise<void> {
  const { close } = await serveRollouts(context, state)
  await close()
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
      // An attempt has failed when the next one begins.
      const attempts = outcome === 'good' ? 1 : defaultPolicy.tries + 1
      for (let attempt = 0; attempt < attempts; attempt++) {
        await site.beginAttempt(machine, (at += 1000))
        site.sign(machine, { kind: 'asks' }, at)
      }
      if (outcome === 'bad') return
      const { toplevel } = site.currentAttempt(machine)?.generation ?? assert.fail()
      site.sign(machine, { kind: 'bless', bootId: `${at}`, toplevel }, at)
      for (let minutes = 0; minutes < 5; minutes++) site.tick((at += 60_000))
    },
  }
}
