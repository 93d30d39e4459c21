// The server of a layer is killed at any moment.

import { test } from 'node:test'
import { killAgainAndAgain } from './support/layer-kill.ts'

test('what a layer acknowledged is there after its server was killed', async () => {
  await killAgainAndAgain({ rounds: 8, seed: 1 })
})
