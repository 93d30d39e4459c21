// A site with as many machines as one likes, for pictures and measurements. No machine boots.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Boot } from '../../../src/boots/follow.ts'
import { bootSteps } from '../../../src/boots/step.ts'
import { manifestName } from '../../../src/image/layout.ts'
import { formatManifest } from '../../../src/image/manifest.ts'
import { sitePlaces } from '../../../src/image/site-places.ts'
import { openSiteDatabase } from '../../../src/site/database.ts'
import type { Candidate } from '../../../src/site/life/life.ts'
import { beginRollout } from '../../../src/site/rollout/rollouts.ts'
import type { RolloutSettings } from '../../../src/site/rollout/rollout.ts'
import { openSite } from '../../../src/site/site.ts'
import { settings } from '../../site/rollout/support/simulate.ts'

const minute = 60_000

export interface MadeUpMachine {
  machine: string
  name: string
  group: string
}

/** An image of which there is only the manifest. */
export function makeUpImage(state: string, name: string, label: string): Candidate {
  const hash = createHash('sha256').update(`${name} ${label}`).digest('hex').slice(0, 32)
  const toplevel = `/nix/store/${hash.replaceAll('e', 'f')}-nixos-system-${name}-${label}`
  const text = formatManifest({
    version: 1,
    system: { ...{ toplevel, label, platform: 'aarch64-linux' }, entries: [], fileSystems: [] },
    options: {
      ...{ imageBaseName: 'nixos', rootDirectoryName: name, storePaths: [], nfsRoot: '10.0.0.1:/' },
      ...{ populateFirmwareCommands: '', populateRootCommands: '' },
    },
    closure: [],
    root: { format: 'directory', owner: { uid: 0, gid: 0 }, files: [] },
    boot: { files: [] },
  })
  const image = createHash('sha256').update(text).digest('hex')
  const file = join(sitePlaces(state).images, image, manifestName)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
  return { image, toplevel, blesses: true }
}

/** All machines run the image. They have been up for ten minutes. */
export async function makeUpSite(
  state: string,
  machines: readonly MadeUpMachine[],
  byDefault: Candidate,
): Promise<void> {
  const at = Date.now() - 10 * minute
  const site = openSite({ state, at, onTold: () => {}, onError: assert.ifError })
  for (const { machine } of machines) {
    await site.beginAttempt(machine, at, { byDefault })
    site.sign(machine, { kind: 'asks' }, at)
    site.sign(machine, { kind: 'bless', bootId: machine, toplevel: byDefault.toplevel }, at)
  }
  for (let minutes = 0; minutes <= 10; minutes++) site.tick(at + minutes * minute)
  for (const { machine } of machines) site.sign(machine, { kind: 'alive' }, at + 10 * minute)
  site.close(at + 10 * minute)
  const database = openSiteDatabase(state)
  database.change((writer) => {
    for (const { machine, name } of machines) writer.setName(machine, name)
    writer.rollouts.setGroups(new Map(machines.map(({ machine, group }) => [machine, group])))
  })
  database.close()
}

export function makeUpRollout(
  state: string,
  waves: readonly (readonly string[])[],
  more: Partial<RolloutSettings>,
): void {
  const database = openSiteDatabase(state)
  database.change((writer) => {
    const now = { at: Date.now(), uptime: writer.uptime() }
    beginRollout(writer, settings(waves, { maxUnavailable: 4, ...more }), new Map(), now)
  })
  database.close()
}

/** How long each step takes. Milliseconds. */
const usual = [400, 1700, 6100, 5200, 2300, 9900]

/** @param slower 1 is usual; another number for each step */
export function makeUpBoot(
  machine: string,
  started: number,
  slower: (step: number) => number = () => 1,
): Boot {
  const steps: Boot['steps'] = {}
  let at = started
  for (const [number, step] of bootSteps.entries()) {
    steps[step] = Math.round(at)
    at += (usual[number] ?? 0) * slower(number)
  }
  const { registered = started } = steps
  return {
    ...{ machine, started, step: 'registered', steps, lastSign: registered },
    bytes: 58_000_000,
  }
}
