// Machines that boot an image from power-on, from other programs' servers. Other ways are in
// boot.slow.ts; our own server is in serve.test.ts.

import { suite, test } from 'node:test'
import { bootBy, fastWays } from './support/boot-ways.ts'

suite('from power-on to a registered system', { concurrency: 2 }, () => {
  for (const way of fastWays) test(way.name, (context) => bootBy(way, context))
})
