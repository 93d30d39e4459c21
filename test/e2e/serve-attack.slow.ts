// `netimage serve` with hostile clients. The whole program runs, and real clients must still be
// served.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { buildServedImage } from '../serve/support/served-image.ts'
import { littleMemory } from '../support/limited-memory.ts'
import { findProgram } from '../support/packages.ts'
import { childrenOf } from '../support/processes.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { openNetwork, type Host } from './support/network.ts'
import { udhcpc } from './support/own-dhcp.ts'
import { startOwnServer } from './support/own-server.ts'

const path = '/srv/test'
const attackProgram = join(import.meta.dirname, 'support/attack-program.ts')

test('netimage serve needs little memory and few descriptors under attack, and still serves others', async (context) => {
  const workspace = makeWorkspace('serve-attack')
  await using cleanup = new AsyncDisposableStack()
  cleanup.defer(() => workspace.remove())
  const image = await buildServedImage(workspace, `10.66.0.1:${path},v3`)
  await using network = await openNetwork('serve-hostile')
  const machine = await network.addHost('52:54:00:00:00:07')
  const hostile = await network.addHost('52:54:00:00:00:66')
  // Adds the image to the site, for which the server uses threads and more memory.
  const first = await startOwnServer(network, [image], 'full')
  await first.program.kill()
  const settings = { workers: 2, through: littleMemory }
  const { program } = await startOwnServer(network, [image], 'full', settings)
  await ip(machine, 'address add 10.66.0.7/24 dev eth0')
  const addresses = Array.from({ length: 40 }, (_, index) => `10.66.0.${200 + index}`)
  for (const address of addresses) await ip(hostile, `address add ${address}/24 dev eth0`)

  const file = import.meta.filename
  let round = 0
  const serveAll = async () => {
    const url = `nfs://${network.server}${path}/kept-${++round}?version=3`
    const copy = join(machine.directory, `copy-${round}`)
    const files = `${network.server}/boot.ipxe`
    const limits = ['-sSf', '-m', '900']
    assert.match(await machine.run([findProgram('curl'), ...limits, `http://${files}`]), /^#!ipxe/)
    assert.match(await machine.run([findProgram('curl'), ...limits, `tftp://${files}`]), /^#!ipxe/)
    await machine.run([findProgram('nfs-cp'), file, url])
    await machine.run([findProgram('nfs-cp'), url, copy])
    assert.equal(readFileSync(copy, 'utf8'), readFileSync(file, 'utf8'))
    await udhcpc(machine)
  }
  await serveAll()
  const before = openFilesOf(program.pid)

  const attack = [process.execPath, attackProgram, network.server]
  const attacker = hostile.start('attack', [...attack, ...addresses])
  await attacker.waitFor(/^under way$/)
  const flood = ['-4', '-i', '-l', 'eth0', '-r', '200', '-R', '60000', '-p', '3600']
  const perfdhcp = hostile.start('perfdhcp', [findProgram('perfdhcp'), ...flood])
  let most = 0
  while (round < 2) {
    await serveAll()
    most = Math.max(most, openFilesOf(program.pid) - before)
  }
  assert.ok(attacker.isRunning() && perfdhcp.isRunning() && program.isRunning())
  const found = `${most} descriptors, ${program.lines().length} lines`
  context.diagnostic(found)
  // Three servers have 512 connections each, and 256 transfers have a socket and a file each. These limits
  // are for each process, and one machine is in one process.
  assert.ok(most < 3 * 512 + 2 * 256 + 500, found)
  // All its addresses are of one machine, which has one root: each of the others is told of once.
  const errors = program
    .lines()
    .map(({ text }) => text)
    .filter((text) => text.startsWith('error: '))
  const doubles = errors.filter((text) => / has the same hardware .* \[in-use\]$/.test(text))
  assert.deepEqual(errors, [...new Set(doubles)])
})

/** Of the process and its descendants: the programs that set up its namespaces, and all that serve. */
function openFilesOf(pid: number): number {
  const ofChildren = childrenOf(pid).map((child) => openFilesOf(child))
  return ofChildren.reduce((sum, count) => sum + count, readdirSync(`/proc/${pid}/fd`).length)
}

async function ip(host: Host, command: string): Promise<void> {
  await host.run(['ip', ...command.split(' ')])
}
