// Two of the quickest of failing-boots.slow.ts.

import { test } from 'node:test'
import { assertFails, openFlawedSystems } from './support/flaws.ts'

test('systems that check finds fault with do not boot, and do when they are mended', async () => {
  const rules = ['nfs-options-in-device', 'no-nfs-client']
  await using systems = await openFlawedSystems(rules)
  await Promise.all(rules.map((rule) => assertFails(systems, rule)))
})
