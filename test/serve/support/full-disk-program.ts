// Starts `netimage serve` on a full disk. Fails with an error.
//
//     node full-disk-program.ts DISK IMAGE SIGTERM | SIGKILL | new
//
// DISK: a small file system, in a mount namespace of its own. SIGTERM, SIGKILL: a server has run before,
// and ended by this signal; after SIGKILL, two processes serve the machines.

import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { fillDisk } from '../../support/fill-disk.ts'
import { netimage, startNetimage, workersFlag } from '../../support/netimage.ts'
import { runProgram } from '../../support/real-nix.ts'
import { connectNfs } from '../../protocols/support/nfs-client.ts'
import { findProgram } from '../../support/packages.ts'
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
  assert.ok(await before.canBoot(one))
  await before.mounts(one)
  const good = await netimage(['site', 'good', one, '1', '--state', state])
  assert.equal(good.status, 0, good.stderr)
  before.child.kill(signal)
  await before.ended
  fillDisk(ballast)

  const full = await start()
  assert.ok(await full.canBoot(one))
  await full.mounts(one)
  assert.match(await statusOf(one), /generation 1 .* good/)
  const { booted, refused } = await bootUntilRefused(full.canBoot)
  // A server that was killed leaves room in the logs of its databases for some attempts.
  if (signal === 'SIGTERM') assert.deepEqual(booted, [])
  for (const machine of booted) assert.match(await statusOf(machine), /attempt 1 of generation 1 /)
  rmSync(ballast)
  await waitUntil('the refused machine boots', () => full.canBoot(refused))
  await waitUntil('its boots are recorded', async () => {
    assert.ok(await full.canBoot(refused))
    const recorded = await netimage(['boots', refused, '--state', state])
    return recorded.stdout.startsWith(refused)
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
  assert.match(await statusOf(refused), /attempt 1 of generation 1 /)
}

async function statusOf(machine: string): Promise<string> {
  return (await netimage(['site', 'status', machine, '--state', state])).stdout
}

/** Lets one machine after another boot until one of them cannot. */
async function bootUntilRefused(
  canBoot: (machine: string) => Promise<boolean>,
): Promise<{ booted: string[]; refused: string }> {
  const booted: string[] = []
  for (let last = 3; last < 255; last++) {
    const machine = `127.0.0.${last}`
    if (!(await canBoot(machine))) return { booted, refused: machine }
    booted.push(machine)
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
    /** Whether the machine gets its script. */
    canBoot: async (machine: string) => {
      const args = ['-sf', '--interface', machine, url]
      const script = await runProgram(findProgram('curl'), args).catch(() => undefined)
      if (script !== undefined) assert.match(script, /^#!ipxe/)
      return script !== undefined
    },
    /** Mounts its root, and finds a file of the image in it. */
    mounts: async (machine: string) => {
      using client = await connectNfs(nfs, machine)
      const { handle } = await client.mount('/srv/test')
      await client.find(handle, ...servedFile)
    },
  }
}
