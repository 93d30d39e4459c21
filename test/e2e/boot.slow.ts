// The ways of booting that are not in boot.test.ts, because they take minutes.

import { suite, test } from 'node:test'
import { bootBy, fastOwnWays, otherWays } from './support/boot-ways.ts'

suite('from power-on to a registered system', { concurrency: 2 }, () => {
  for (const way of [...fastOwnWays, ...otherWays])
    test(way.name, (context) => bootBy(way, context))
})
