// The NFS server with other programs' clients: the kernel, libnfs, showmount, rpcinfo.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { startLinuxClient } from '../protocols/support/linux-client.ts'
import { findProgram } from '../support/packages.ts'
import { openNetwork, type Network } from './support/network.ts'
import type { Program } from './support/program.ts'

const program = join(import.meta.dirname, '../protocols/support/nfs-server-program.ts')
const path = '/srv/pi'

suite('an NFS server of our own', () => {
  const cleanup = new AsyncDisposableStack()
  after(() => cleanup.disposeAsync())
  let network: Network
  let server: Program

  before(async () => {
    network = cleanup.use(await openNetwork('serve-nfs'))
    const ports = JSON.stringify({ portMapper: 111, nfs: 2049 })
    server = network.start('nfs', [process.execPath, program, network.server, ports, path])
    await server.waitFor(/^ready$/)
  })

  const run = (name: string, ...args: string[]) => network.run([findProgram(name), ...args])

  test('rpcinfo finds its programs by each version of the port mapper', async () => {
    const listed = await run('rpcinfo', '-p', network.server)
    const rows = listed
      .trim()
      .split('\n')
      .slice(1)
      .map((row) => row.trim().split(/\s+/))
    assert.deepEqual(rows.map((row) => row.slice(0, 4).join(' ')).sort(), [
      ...['100000 2 tcp 111', '100000 2 udp 111', '100000 3 tcp 111', '100000 3 udp 111'],
      ...['100000 4 tcp 111', '100000 4 udp 111', '100003 3 tcp 2049'],
      ...['100005 3 tcp 2049', '100005 3 udp 2049'],
    ])
    assert.match(await run('rpcinfo', network.server), /100003 +3 +tcp +10\.66\.0\.1\.8\.1 /)
    for (const [transport, service, version] of [
      ...[
        ['tcp', 'nfs', '3'],
        ['tcp', 'mountd', '3'],
        ['udp', 'mountd', '3'],
      ],
      ...[
        ['tcp', 'portmapper', '4'],
        ['udp', 'portmapper', '3'],
        ['udp', 'portmapper', '2'],
      ],
    ] as const) {
      const said = await run('rpcinfo', '-T', transport, network.server, service, version)
      assert.match(said, /ready and waiting/)
    }
  })

  test('showmount lists the exports and the mounts', async () => {
    assert.equal(
      await run('showmount', '-e', network.server),
      `Export list for ${network.server}:\n${path} ${network.server}\n`,
    )
    await run('nfs-ls', `nfs://${network.server}${path}?version=3`)
    assert.match(await run('showmount', '-a', network.server), new RegExp(`:${path}$`, 'm'))
  })

  test('libnfs writes and reads a file, with the port mapper or with given ports', async () => {
    const file = join(network.directory, 'file')
    const copy = join(network.directory, 'copy')
    writeFileSync(file, randomBytes(5_000_001))
    const url = (name: string, ports: string) =>
      `nfs://${network.server}${path}/${name}?version=3${ports}`
    await run('nfs-cp', file, url('file', ''))
    await run('nfs-cp', url('file', '&nfsport=2049&mountport=2049'), copy)
    assert.ok(readFileSync(file).equals(readFileSync(copy)))
    assert.match(await run('nfs-ls', url('', '')), /^-rw-r.*\s5000001 file$/m)
  })

  test('Linux finds the ports by the port mapper, and reads the data that it wrote', async () => {
    const machine = await startLinuxClient(network, {
      ...{ name: 'large', host: 102, path, options: '' },
      script: `
set -e
grep -q 'rsize=1048576,wsize=1048576' /proc/mounts
dd if=/dev/urandom of=/tmp/large bs=1M count=30
cp /tmp/large /mnt/large
dd if=/tmp/large of=/mnt/direct bs=100k count=20 conv=fsync oflag=direct
umount /mnt
mount -t nfs -o vers=3,nolock,proto=tcp,addr=${network.server} ${network.server}:${path} /mnt
cmp /tmp/large /mnt/large
cmp -n 2048000 /tmp/large /mnt/direct
`,
    })
    await machine.waitFor(/^passed$/)
  })
})
