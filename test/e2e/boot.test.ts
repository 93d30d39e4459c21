// Machines that boot an image from power-on; the other ways are in boot.slow.ts.

import { suite, test } from 'node:test'
import { bootBy, fastWays } from './support/boot-ways.ts'

suite('from power-on to a registered system', { concurrency: 2 }, () => {
  for (const way of fastWays) test(way.name, (context) => bootBy(way, context))
})
