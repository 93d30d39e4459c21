// The same as the short test, more often.

import { test } from 'node:test'
import { killAgainAndAgain } from './support/layer-kill.ts'

test('everything that a layer acknowledged survives if its server is killed twenty times', async () => {
  await killAgainAndAgain({ rounds: 20, seed: 2 })
})
