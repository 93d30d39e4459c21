// A person writes the file of a site, and applies it.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DemoImage } from './demo-image.ts'
import type { Network } from './network.ts'
import type { OwnServer } from './own-server.ts'
import type { Program } from './program.ts'

export interface Group {
  image: DemoImage
  machines: readonly { name: string; mac: string; reboot?: readonly string[] }[]
  /** Further lines of the group. */
  settings: readonly string[]
}

/** @returns `site apply --wait`: when it ends, its last line is `status` with its exit status */
export function applyGroup(network: Network, server: OwnServer, group: Group): Program {
  const { image, machines, settings } = group
  // JSON has the same strings and lists as TOML.
  const quoted = (value: unknown) => JSON.stringify(value)
  const file = join(network.directory, 'site.toml')
  const lines = [
    '[group.lab]',
    `system = ${quoted(image.manifest.options.rootDirectoryName)}`,
    `machines = ${quoted(machines.map(({ name }) => name))}`,
    ...settings,
    ...machines.flatMap(({ name, mac, reboot }) => [
      `[machine.${name}]`,
      `mac = ${quoted(mac)}`,
      ...(reboot ? [`reboot = ${quoted(reboot)}`] : []),
    ]),
  ]
  writeFileSync(file, lines.join('\n'))
  const command = server.siteCommand('apply', '--file', file, '--yes', '--wait')
  return network.start('apply', ['sh', '-c', '"$@"; echo "status $?"', 'sh', ...command])
}

/** The rows of the site's log, without times. */
export async function siteLog(network: Network, server: OwnServer): Promise<string[]> {
  const shown = await network.run(server.siteCommand('log', '-n', '200'))
  return shown
    .trimEnd()
    .split('\n')
    .map((row) => row.replace(/^\S+ \S+ {2}/, ''))
}
