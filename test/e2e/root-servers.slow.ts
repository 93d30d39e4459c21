// Roots from common NFS servers with netimage's configuration. boot.test.ts has nfs-ganesha with
// version 3, and two-machines.slow.ts with version 4.2. server-paths.slow.ts reads files from the
// server of the kernel by version 3.

import { suite, test } from 'node:test'
import { bootFrom, type RootWay } from './support/root-ways.ts'

const ways: RootWay[] = [
  { server: 'ganesha', version: '4.0' },
  { server: 'kernel', version: '4.2' },
]

suite('a root', { concurrency: 2 }, () => {
  for (const way of ways) {
    test(`from the server ${way.server} over NFSv${way.version}`, async (context) => {
      await bootFrom(way, context)
    })
  }
})
