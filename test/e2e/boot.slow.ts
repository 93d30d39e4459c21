// The ways of booting that are not in boot.test.ts, because they take minutes.

import { suite, test } from 'node:test'
import { bootBy, fastOwnWays, otherWays, type BootWay } from './support/boot-ways.ts'

suite('from power-on to a kernel', { concurrency: 2 }, () => {
  // serve.test.ts boots the same images until the system is up.
  const loading = fastOwnWays.map((way): BootWay => ({ ...way, until: 'kernel' }))
  for (const way of [...loading, ...otherWays]) test(way.name, (context) => bootBy(way, context))
})
