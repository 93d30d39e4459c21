// Machines that boot an image from power-on; from servers of other people; the other ways are in
// boot.slow.ts, and serve.test.ts has our own server.

import { suite, test } from 'node:test'
import { bootBy, fastWays } from './support/boot-ways.ts'

suite('from power-on to a registered system', { concurrency: 2 }, () => {
  for (const way of fastWays) test(way.name, (context) => bootBy(way, context))
})
