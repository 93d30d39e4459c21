// The server of a layer is killed at any moment.

import { test } from 'node:test'
import { killAgainAndAgain } from './support/layer-kill.ts'

test('everything that a layer acknowledged survives if its server is killed', async () => {
  await killAgainAndAgain({ rounds: 8, seed: 1 })
})
