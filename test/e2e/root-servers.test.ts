// The fastest way to serve a root; the other ways are in root-servers.slow.ts.

import { test } from 'node:test'
import { bootFrom } from './support/root-ways.ts'

test('a root from nfs-ganesha over NFSv4.2', async (context) => {
  await bootFrom({ server: 'ganesha', version: '4.2', machine: 'uml' }, context)
})
