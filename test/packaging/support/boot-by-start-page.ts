// A fresh Debian becomes a server by the commands of docs/start.md, and a machine boots from it.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildDemoSystem, cacheDemoSystem } from '../../../demo/system/build.ts'
import { cacheDirectory } from '../../e2e/support/cache.ts'
import { addNetworkBooted } from '../../e2e/support/network-booted-uml.ts'
import { openNetwork } from '../../e2e/support/network.ts'
import { openShell } from '../../e2e/support/shell.ts'
import { waitUntil } from '../../support/waiting.ts'
import { startInDebian } from './debian.ts'
import { commandsOf } from './start-page.ts'

const mac = '52:54:00:00:00:01'

/**
 * @param directory an empty one
 * @param files the files of the release, by their names: the package, and SHA256SUMS
 * @returns what the commands printed in Debian, and what the machine says of its root
 */
export async function bootByStartPage(
  directory: string,
  files: Readonly<Record<string, string>>,
): Promise<{ output: string; root: string[] }> {
  const demo = await buildDemoSystem({
    cacheDirectory: cacheDirectory('demo-downloads'),
    worldDirectory: cacheDirectory('demo-nix'),
    ...{ label: '25.11.start', rootDevice: '10.66.0.1:/srv/pc', umlKernel: true },
  })
  mkdirSync(directory, { recursive: true })
  const { secretKeyFile, publicKey } = await demo.world.generateKey('start-1')
  await cacheDemoSystem(demo, join(directory, 'cache'), { secretKeyFile })

  // Until somebody writes there, Debian serves.
  const seen = join(directory, 'seen')
  execFileSync('mkfifo', [seen])
  await using network = await openNetwork('start')
  const { values, blocks } = commandsOf('Debian', {
    interface: network.bridge,
    server: network.server,
    dhcp: 'full',
    range: '--range 10.66.0.100-10.66.0.199',
    machine: mac,
    system: demo.toplevel,
    cache: 'file:///shared/cache',
    key: publicKey,
  })
  // The last command shows the boots: there must be one.
  const [last = ''] = blocks.splice(-1)
  const follow = 'journalctl --follow --unit netimage --output cat --since today'
  const waitFor = (pattern: string) => `grep --max-count=1 -E '${pattern}' < <(${follow})`
  const script = [
    ...["trap 'journalctl --unit netimage' ERR", 'cd /shared', values, ...blocks],
    ...[waitFor(`^on ${network.server}`), 'touch serving', 'read -r _ <seen'],
    ...[waitFor('"step":"registered"'), last],
  ]
  const { container, output } = await startInDebian(network, script.join('\n'), directory, files)
  try {
    await waitUntil(
      'the service serves',
      () => existsSync(join(directory, 'serving')) || !container.isRunning(),
    )
    // If the commands have failed, this says why.
    if (!container.isRunning()) await output
    const booted = await addNetworkBooted(network, { name: 'pc', mac })
    const shell = await openShell(await (await booted.load())())
    const root = await shell.run('cat /proc/mounts; readlink /run/booted-system')
    // A pipe that is open for both never lets its opener wait.
    writeFileSync(seen, 'the root\n', { flag: 'r+' })
    return { output: await output, root }
  } finally {
    await container.kill()
  }
}
