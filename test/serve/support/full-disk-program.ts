// Starts `netimage serve` on a full disk. Fails with an error.
//
//     node full-disk-program.ts DISK IMAGE SIGTERM | SIGKILL | new
//
// DISK: a small file system, in a mount namespace of its own. SIGTERM, SIGKILL: a server has run before,
// and ended by this signal; after SIGKILL, two processes serve the machines.

import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { findProgram } from '../../e2e/support/packages.ts'
import { fillDisk } from '../../support/fill-disk.ts'
import { netimage, startNetimage, workersFlag } from '../../support/netimage.ts'
import { runProgram } from '../../support/real-nix.ts'
import { connectNfs } from '../../protocols/support/nfs-client.ts'
import { waitUntil } from '../../support/waiting.ts'
import { freePort } from './free-port.ts'
import { servedFile } from './served-image.ts'

const [disk = '', image = '', way = ''] = process.argv.slice(2)
const state = join(disk, 'state')
const ballast = join(disk, 'ballast')
const one = '127.0.0.2'
if (way === 'new') await startNew()
else await startAgain(way === 'SIGKILL' ? 'SIGKILL' : 'SIGTERM')
process.stdout.write('as expected\n')

async function startAgain(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  const before = await start()
  assert.match(await before.boots(one), /^#!ipxe/)
  await before.mounts(one)
  const good = await netimage(['site', 'good', one, '1', '--state', state])
  assert.equal(good.status, 0, good.stderr)
  before.child.kill(signal)
  await before.ended
  fillDisk(ballast)

  const full = await start()
  assert.match(await full.boots(one), /^#!ipxe/)
  await full.mounts(one)
  const two = await firstRefused(full.boots)
  const status = await netimage(['site', 'status', one, '--state', state])
  assert.match(status.stdout, /generation 1 .* good/)
  rmSync(ballast)
  const boots = () => netimage(['boots', two, '--state', state])
  await waitUntil('the other machine boots', () =>
    full.boots(two).then(
      () => true,
      () => false,
    ),
  )
  await waitUntil('its boots are recorded', async () => {
    await full.boots(two)
    return (await boots()).stdout.startsWith(two)
  })
  full.child.kill('SIGTERM')
  const { stdout, stderr } = await full.ended
  // A server that could open its site tells only of the machine that it refuses.
  const saysSite =
    signal === 'SIGKILL'
      ? /could not (open|change) the site .*: the disk is full/
      : /could not open the site .*: the disk is full \[disk-full\]\n {2}Make room/
  assert.match(`${stdout}${stderr}`, saysSite)
  assert.match(stderr, /could not open the boots .*: the disk is full \[disk-full\]\n {2}Make room/)
  const recorded = await netimage(['site', 'status', two, '--state', state])
  assert.match(recorded.stdout, /attempt 1 of generation 1 /)
}

/** A server that was killed leaves room in the logs of its databases, so that some new machines can boot. */
async function firstRefused(boots: (machine: string) => Promise<string>): Promise<string> {
  for (let last = 3; last < 255; last++) {
    const machine = `127.0.0.${last}`
    const isRefused = await boots(machine).then(
      () => false,
      () => true,
    )
    if (isRefused) return machine
  }
  assert.fail('the disk is not full')
}

async function startNew(): Promise<void> {
  fillDisk(ballast)
  const { status, stderr } = await netimage([
    'serve',
    image,
    '--listen',
    '127.0.0.1',
    '--state',
    state,
  ])
  assert.equal(status, 1)
  assert.match(stderr, /\[disk-full\]\n {2}.*--state/)
  assert.doesNotMatch(stderr, /\n {4}at /)
}

async function start() {
  const [tftp, http, nfs] = await Promise.all([freePort(), freePort(), freePort()])
  const workers = workersFlag(way === 'SIGKILL' ? 2 : 0)
  const started = startNetimage([
    ...['serve', image, '--dhcp', 'off', '--listen', '127.0.0.1', '--state', state],
    ...['--tftp-port', `${tftp}`, '--http-port', `${http}`, '--nfs-port', `${nfs}`],
    ...['--no-port-mapper', '--allow', 'any', ...workers],
  ])
  let said = ''
  started.child.stderr?.on('data', (text: string) => (said += text))
  let isOver = false
  started.child.on('exit', () => (isOver = true))
  await waitUntil('it serves', () => isOver || /^on 127\.0\.0\.1 /m.test(said))
  if (isOver) throw new Error(said)
  const url = `http://127.0.0.1:${http}/boot.ipxe`
  return {
    ...started,
    boots: (machine: string) =>
      runProgram(findProgram('curl'), ['-sf', '--interface', machine, url]),
    /** Mounts its root, and finds a file of the image in it. */
    mounts: async (machine: string) => {
      using client = await connectNfs(nfs, machine)
      const { handle } = await client.mount('/srv/test')
      await client.find(handle, ...servedFile)
    },
  }
}
