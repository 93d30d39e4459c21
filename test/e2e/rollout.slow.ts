// Roll-outs to machines that boot from the network: one goes to all of them, wave by wave, and one is halted
// because its image is bad. update.slow.ts shows an image that does not find its root.

import assert from 'node:assert/strict'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { buildDemoSystem } from '../../demo/system/build.ts'
import { ordinaryUser } from '../support/namespace.ts'
import { waitUntil } from '../support/waiting.ts'
import { cacheDirectory } from './support/cache.ts'
import { buildDemoImage, rootDevice, type DemoImage } from './support/demo-image.ts'
import { applyGroup, siteLog } from './support/apply-group.ts'
import { addNetworkBooted, type NetworkBooted } from './support/network-booted-uml.ts'
import { openNetwork, type Network } from './support/network.ts'
import { assertRuns, failsCheck, makeOwnFiles, showOwnFiles } from './support/own-files.ts'
import { startOwnServer, type OwnServer } from './support/own-server.ts'
import type { PoweredMachine } from './support/machines.ts'
import { openShell, type Shell } from './support/shell.ts'

const names = ['pi1', 'pi2', 'pi3'] as const
type Name = (typeof names)[number]
const macOf = (name: Name) => `52:54:00:00:00:0${name.slice(2)}`

interface Member extends NetworkBooted {
  machine: PoweredMachine
  shell: Shell
  own: string[]
}

suite('roll-outs to machines that boot from the network', { concurrency: 1 }, () => {
  const cleanup = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'netimage-rollout-'))
  cleanup.defer(() => rmSync(directory, { recursive: true, force: true }))
  const images = new Map<string, DemoImage>()
  const members = new Map<Name, Member>()
  let network: Network
  let server: OwnServer

  async function build(name: string, kernelParams = ''): Promise<DemoImage> {
    const demo = await buildDemoSystem({
      cacheDirectory: cacheDirectory('demo-downloads'),
      worldDirectory: cacheDirectory('demo-nix'),
      ...{ label: `25.11.${name}`, rootDevice, umlKernel: true },
      changes: { kernelParams },
    })
    const image = await buildDemoImage(demo, join(directory, name), { boot: ['ipxe'] })
    images.set(name, image)
    return image
  }

  const image = (name: string): DemoImage => images.get(name) ?? assert.fail(name)
  const member = (name: Name): Member => members.get(name) ?? assert.fail(name)

  before(async () => {
    // The user of the server adds images from there.
    chmodSync(directory, 0o755)
    const first = await build('first')
    await build('second')
    await build('failing', failsCheck)
    network = cleanup.use(await openNetwork('rollout'))
    server = await startOwnServer(network, [first.image], 'full')
    for (const name of ['second', 'failing']) await server.site('add', image(name).image)
    const asked = join(network.directory, 'asked')
    mkdirSync(asked)
    chownSync(asked, ordinaryUser.uid, ordinaryUser.gid)
    await Promise.all(
      names.map(async (name) => {
        const mac = macOf(name)
        await server.site('name', mac, name)
        const booted = await addNetworkBooted(network, { name, mac })
        const machine = await (await booted.load())()
        const shell = await openShell(machine)
        await assertRuns(shell, first)
        members.set(name, { ...booted, machine, shell, own: await makeOwnFiles(shell) })
        await server.site('good', mac)
      }),
    )
  })
  after(() => cleanup.disposeAsync())

  /** Where the reboot command of a machine leaves a mark. */
  const markOf = (name: Name) => join(network.directory, 'asked', name)

  async function isAsked(name: Name): Promise<void> {
    await waitUntil(`${name} is asked to restart`, () => existsSync(markOf(name)))
    rmSync(markOf(name))
  }

  /** @returns starts the kernel that it has loaded */
  async function loadAgain(name: Name): Promise<() => Promise<void>> {
    const one = member(name)
    await one.shell.run('sync')
    await one.machine.powerOff()
    const start = await one.load()
    return async () => {
      one.machine = await start()
      one.shell = await openShell(one.machine)
    }
  }

  async function whenAsked(name: Name): Promise<void> {
    await isAsked(name)
    await (
      await loadAgain(name)
    )()
  }

  /** The timer of the module lets it ask every two minutes. */
  async function restartsItself(name: Name): Promise<void> {
    const { shell } = member(name)
    await waitUntil(`${name} may restart`, async () => {
      await shell.run("$(sed -n 's/^ExecStart=//p' /etc/systemd/system/netimage-restart.service)")
      const mark = await shell.run('[ ! -e /run/wants-restart ] || echo yes')
      return mark.includes('yes')
    })
    await (
      await loadAgain(name)
    )()
  }

  /** The rows of the log about a roll-out and the verdicts of a generation. */
  async function story(rollout: number, generation: number): Promise<string[]> {
    const rows = await siteLog(network, server)
    const about = new RegExp(`roll-out ${rollout} |generation ${generation} is`)
    return rows.filter((row) => about.test(row) && !row.includes('has run'))
  }

  test('one goes from wave to wave, and each machine keeps its own files', async () => {
    const applied = applyGroup(network, server, {
      image: image('second'),
      machines: names.map((name) => ({
        ...{ name, mac: macOf(name) },
        ...(name !== 'pi3' && { reboot: ['touch', markOf(name)] }),
      })),
      settings: ['waves = [["pi1"], "rest"]', 'health = { settle = "1s" }'],
    })
    await Promise.all([whenAsked('pi1'), whenAsked('pi2'), restartsItself('pi3')])
    await applied.waitFor(/^status 0$/)
    const rows = await story(1, 2)
    const of = (name: Name) => [
      `the server  ${name}: roll-out 1 of lab ${name === 'pi3' ? 'lets it restart itself' : 'asks it to restart'}`,
      `the server  ${name}: generation 2 is good: the machine was up, and stayed up`,
    ]
    assert.match(rows[0] ?? '', /^uid 54321 {2}began roll-out 1 of lab by plan .*25\.11\.second/)
    assert.deepEqual(rows.slice(1), [
      ...of('pi1'),
      'the server  roll-out 1 of lab begins wave 2: 2 machines',
      ...[...of('pi2'), ...of('pi3')],
      'the server  roll-out 1 of lab is done',
    ])
    const identities = new Set<string>()
    for (const name of names) {
      const { shell, own } = member(name)
      await assertRuns(shell, image('second'))
      assert.deepEqual(await showOwnFiles(shell), own)
      for (const line of own.slice(0, 2)) identities.add(line)
    }
    // Each machine has a machine id and a host key of its own.
    assert.equal(identities.size, 2 * names.length)
  })

  test('machines read the same bytes of their stores while the images that nobody needs are removed', async () => {
    const sums = '/run/sums'
    // Each time from the server.
    const reads = [
      'echo 3 > /proc/sys/vm/drop_caches',
      `find /nix/store -type f -exec md5sum {} + 2>&1 | sort | md5sum >> ${sums}`,
    ]
    const shells = names.map((name) => member(name).shell)
    const haveRead = (times: number) =>
      waitUntil(`each machine has read all files ${times} times`, async () => {
        const counts = await Promise.all(shells.map((shell) => shell.run(`wc -l < ${sums}`)))
        return counts.every(([count = '']) => Number(count) >= times)
      })
    for (const shell of shells) {
      const [count] = await shell.run('find /nix/store -type f | wc -l')
      assert.ok(Number(count) > image('second').manifest.closure.length)
      await shell.run(`: > ${sums}`)
      await shell.run(`{ until [ -e /run/ended ]; do ${reads.join('; ')}; done; } &`)
    }
    await haveRead(1)
    const collected = await server.site('gc')
    await haveRead(3)
    for (const shell of shells) {
      await shell.run('touch /run/ended')
      assert.equal((await shell.run(`sort -u ${sums}`)).length, 1)
    }
    const { id } = Object(await server.site('add', image('failing').image))
    assert.partialDeepStrictEqual(collected, { removedImages: [id], inUse: [] })
  })

  test('one halts because of a unit that fails, and the machine is restarted if it can be', async () => {
    const boots = (await server.boots(macOf('pi3'))).length
    const applied = applyGroup(network, server, {
      image: image('failing'),
      machines: names.map((name) => ({
        ...{ name, mac: macOf(name) },
        ...(name !== 'pi2' && { reboot: ['touch', markOf(name)] }),
      })),
      settings: [
        'waves = [["pi1", "pi2"], "rest"]',
        'health = { settle = "1s", tries = 1, deadline = "40s" }',
      ],
    })
    await isAsked('pi1')
    const starts = await Promise.all((['pi2', 'pi1'] as const).map(loadAgain))
    await Promise.all(starts.map((start) => start()))
    await applied.waitFor(/^status 3$/)
    await whenAsked('pi1')
    await assertRuns(member('pi1').shell, image('second'))

    const rows = await story(2, 3)
    const unit =
      /generation 3 is bad: not up .*\(boot-complete\.target was not reached: demo-check\.service\)$/
    assert.equal(rows.filter((row) => unit.test(row)).length, 2, rows.join('\n'))
    assert.ok(
      rows.some((row) => row.includes('roll-out 2 of lab halts: ')),
      rows.join('\n'),
    )
    const status = await network.run(server.siteCommand('status', 'lab'))
    assert.match(status, /^ {2}next: restart pi2: /m)
    assert.doesNotMatch(status, /^ {2}next: restart pi1/m)
    // The machine of the next wave has got nothing.
    assert.equal((await server.boots(macOf('pi3'))).length, boots)
    assert.doesNotMatch(rows.join('\n'), /pi3/)
  })
})
