// Machines that boot from `netimage serve` alone.

import { suite, test } from 'node:test'
import { bootBy, fastOwnWays } from './support/boot-ways.ts'

suite('from power-on to a registered system, with our own server', { concurrency: 2 }, () => {
  for (const way of fastOwnWays) test(way.name, (context) => bootBy(way, context, 'full'))
})
