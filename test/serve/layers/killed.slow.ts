// The same as the short test, more often.

import { test } from 'node:test'
import { killAgainAndAgain } from '../support/layer-kill.ts'

test('what a layer acknowledged is there after its server was killed sixty times', async () => {
  await killAgainAndAgain({ rounds: 60, seed: 2 })
})
