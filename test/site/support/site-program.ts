// A server with nothing but its site: it does what its parent asks, and may be killed at any moment.

import { openSite, type Site } from '../../../src/site/site.ts'
import type { Asked, Answer } from './fleet.ts'

let site: Site | undefined

async function answer(asked: Asked): Promise<Answer['bound']> {
  if (asked.kind === 'open') {
    site = openSite({
      state: asked.state,
      at: asked.at,
      onTold: () => undefined,
      onError(error) {
        throw error
      },
    })
    return undefined
  }
  if (!site) throw new Error('the site is not open')
  if (asked.kind === 'tick') site.tick(asked.at)
  if (asked.kind === 'sign') site.sign(asked.machine, asked.sign, asked.at)
  const bound =
    asked.kind === 'begin'
      ? await site.beginAttempt(asked.machine, asked.at)
      : asked.kind === 'bound'
        ? site.currentAttempt(asked.machine)
        : undefined
  // What was signed in this turn is written before the answer.
  await new Promise((resolve) => void setImmediate(() => setImmediate(resolve)))
  return bound && { attempt: bound.attempt.number, generation: bound.generation.number }
}

process.on('message', (asked: Asked) => {
  void answer(asked).then((bound) => process.send?.({ id: asked.id, bound } satisfies Answer))
})
