// Compares the rule no-nfs-protocols with the real mount.nfs.

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { findProgram } from '../support/packages.ts'
import { ganeshaConfiguration } from './support/configuration.ts'
import { startGanesha } from './support/daemons.ts'
import { openNetwork } from './support/network.ts'

const found = /No such device|mount\(2\)|^$/
const notFound = {
  version3: /Protocol not supported/,
  named: /Failed to find 'tcp' protocol/,
}

test('mount.nfs needs netconfig and protocols for version 3, and for proto=', async () => {
  await using network = await openNetwork('mount-helper')
  const exported = join(network.directory, 'exported')
  mkdirSync(exported)
  await startGanesha(network, ganeshaConfiguration({ '/exported': exported }))
  const empty = join(network.directory, 'empty')
  writeFileSync(empty, '')

  const mount = async (options: string, ...hidden: string[]) =>
    await network.run([
      ...['unshare', '--mount', 'sh', '-c', mountScript, 'sh', findProgram('mount.nfs')],
      ...[`${network.server}:/exported`, exported, options, empty, ...hidden],
    ])

  const [both, ...each] = [['netconfig', 'protocols'], ['netconfig'], ['protocols']]
  for (const options of ['vers=3,nolock', 'vers=3,nolock,proto=tcp', 'vers=4.2,proto=tcp']) {
    assert.match(await mount(options), found, options)
  }
  for (const hidden of each) {
    assert.match(await mount('vers=3,nolock', ...hidden), notFound.version3, hidden[0])
    assert.match(await mount('vers=3,nolock,proto=tcp', ...hidden), notFound.named, hidden[0])
  }
  assert.match(await mount('vers=4.2,proto=tcp', ...(both ?? [])), notFound.named)
  assert.match(await mount('vers=4.2', ...(both ?? [])), found)
})

/**
 * Many test machines have no NFS client in the kernel. It is enough that mount.nfs calls the
 * kernel.
 */
const mountScript = `
helper=$1 device=$2 directory=$3 options=$4 empty=$5
shift 5
for name; do mount --bind "$empty" "/etc/$name"; done
"$helper" "$device" "$directory" -o "$options,retry=0" 2>&1 || true
`
