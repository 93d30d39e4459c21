// The same as the short test, more often.

import { test } from 'node:test'
import { killAgainAndAgain } from './support/layer-kill.ts'

test('what a layer acknowledged is there after its server was killed thirty times', async () => {
  await killAgainAndAgain({ rounds: 30, seed: 2 })
})
