// The commands of docs/start.md for a Raspberry Pi as the server. They run on this computer, and a program
// that behaves like the firmware of a Pi fetches what they serve.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { cacheDemoSystem } from '../../demo/system/build.ts'
import { readImage } from '../../src/image/manifest.ts'
import { commandsOf } from '../packaging/support/start-page.ts'
import { cli, repository } from '../support/netimage.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { buildBootableSystem, small } from './support/demo-image.ts'
import { fetchFirmware } from './support/firmware.ts'
import { openNetwork } from './support/network.ts'
import { assertStartsSystem, boards, powerOnPi } from './support/raspberry-pi.ts'

test('docs/start.md makes a server from which a Raspberry Pi boots', async () => {
  const directory = temporaryDirectory()
  const [programs, served] = [join(directory, 'programs'), join(directory, 'srv')]
  for (const made of [programs, served]) mkdirSync(made)
  const program = (name: string, text: string) =>
    writeFileSync(join(programs, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
  program('netimage', `exec ${process.execPath} ${cli} "$@"`)
  program('systemctl', `test "$*" = 'enable --now netimage'`)

  const demo = await buildBootableSystem('aarch64-linux', {
    ...small,
    rootDevice: '10.66.0.1:/srv/pi',
  })
  const cache = join(directory, 'cache')
  const { secretKeyFile, publicKey } = await demo.world.generateKey('start-1')
  await cacheDemoSystem(demo, cache, { secretKeyFile })
  const { raspberryPi } = await fetchFirmware()

  await using network = await openNetwork('start-pi')
  // The page writes to /srv and to /etc, which the network has for itself.
  await network.run(['mount', '--bind', served, '/srv'])
  const environment = `export PATH=${programs}:$PATH XDG_CACHE_HOME=${directory}`
  const { values, blocks } = commandsOf('A Raspberry Pi', {
    interface: network.bridge,
    server: network.server,
    dhcp: 'full',
    range: '--range 10.66.0.100-10.66.0.199',
    machine: boards.pi4.mac,
    system: demo.toplevel,
    cache: `file://${cache}`,
    key: publicKey,
    firmware: join(raspberryPi, 'usr/lib/raspi-firmware'),
  })
  const [install = '', ...others] = blocks
  assert.match(install, /apt install .*_arm64\.deb/)
  await network.run(['bash', '-euc', [environment, values, ...others].join('\n')])

  // As the unit of the package starts it.
  const unit = readFileSync(join(repository, 'packaging/files/netimage.service'), 'utf8')
  const [, command = ''] = /^ExecStart=\/usr\/bin\/(.*)$/m.exec(unit) ?? []
  const start = command.replace('/var/lib/netimage', join(directory, 'state'))
  const service = [environment, '. /etc/default/netimage', `exec ${start}`].join('\n')
  const server = network.start('netimage', ['sh', '-euc', service])
  await server.waitFor(/^on 10\.66\.0\.1 /)

  const image = join(served, 'images/pi')
  const { manifest } = await readImage(image)
  const report = await powerOnPi(network, 'pi4')
  assertStartsSystem('pi4', report, { demo, manifest })
})
