// Linux fills a root that has a limit.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { startLinuxClient } from '../protocols/support/linux-client.ts'
import { openNetwork } from './support/network.ts'

const program = join(import.meta.dirname, '../protocols/support/nfs-server-program.ts')
const path = '/srv/pi'
const limit = 32 * 2 ** 20

const script = `
set -e
df -k /mnt
df -k /mnt | tail -1 | grep -q ' ${limit / 1024} '
yes log | head -c 67108864 >/tmp/large
if dd if=/tmp/large of=/mnt/log bs=64k conv=fsync 2>/tmp/said; then exit 1; fi
cat /tmp/said
grep -q 'No space left on device' /tmp/said
df -k /mnt
df -k /mnt | tail -1 | grep -q '9[0-9]%\\|100%'
# A program that overwrites its data goes on.
dd if=/dev/urandom of=/tmp/block bs=64k count=16
dd if=/tmp/block of=/mnt/log bs=64k conv=notrunc,fsync
cmp -n 1048576 /tmp/block /mnt/log
rm /mnt/log
dd if=/dev/zero of=/mnt/again bs=64k count=100 conv=fsync
df -k /mnt
`

suite('a machine whose layer has a limit', () => {
  test('sees it in df, gets ENOSPC at the limit, and goes on when it has removed something', async () => {
    await using network = await openNetwork('layer-size')
    const [layer, tree] = [join(network.directory, 'layer'), join(network.directory, 'tree')]
    for (const directory of [layer, tree]) mkdirSync(directory)
    const ports = JSON.stringify({ nfs: 2049 })
    const words = [program, network.server, ports, path, layer, tree, String(limit)]
    const server = network.start('nfs', [process.execPath, ...words])
    await server.waitFor(/^ready$/)
    const options = ',port=2049,mountport=2049'
    const client = { name: 'full', host: 104, path, options, script }
    const machine = await startLinuxClient(network, client)
    await machine.waitFor(/^passed$/)
  })
})
