// `netimage serve` in a network, as the only server or beside a server that gives addresses. It
// does not run as root: its only additional right is to listen on the low ports of the protocols.

import assert from 'node:assert/strict'
import { chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { withOwnCompileCache } from '../../support/compile-cache.ts'
import { ordinaryUser } from '../../support/namespace.ts'
import { cli, workersFlag } from '../../support/netimage.ts'
import type { Network } from './network.ts'
import type { Program } from './program.ts'
import { startRouter } from './servers.ts'

export type OwnServer = {
  program: Program
  /** Kills the server, and starts it again with the same state. */
  restart: () => Promise<void>
  /** The recorded boots of a machine, the newest first. */
  boots: (mac: string) => Promise<OwnBoot[]>
  /** Runs a command of `netimage site` as the user of the server. @returns what it printed as JSON */
  site: (...args: string[]) => Promise<unknown>
  /** The words of a command of `netimage site` that the user of the server runs. */
  siteCommand: (...args: string[]) => string[]
}

export type OwnServerSettings = {
  /** How many processes serve the machines: 2 for what is then most different. */
  workers?: number
  /** A command prefix for the server. */
  through?: readonly string[]
}

export type OwnBoot = v.InferOutput<typeof bootSchema>

const bootSchema = v.object({
  machine: v.string(),
  step: v.string(),
  steps: v.record(v.string(), v.number()),
  bytes: v.number(),
  trouble: v.optional(v.string()),
})

const bootsSchema = v.object({ boots: v.array(bootSchema) })

/** The second capability is for checkouts and test images that only their owner may read. */
const capabilities = '-all,+net_bind_service,+dac_read_search'
const asServiceUser = () => [
  ...['setpriv', `--reuid=${ordinaryUser.uid}`, `--regid=${ordinaryUser.gid}`, '--clear-groups'],
  ...[`--bounding-set=${capabilities}`, `--inh-caps=${capabilities}`],
  ...[`--ambient-caps=${capabilities}`, '--no-new-privs', '--', ...withOwnCompileCache()],
]

/** Starts the server, and returns when it listens. */
export async function startOwnServer(
  network: Network,
  images: readonly string[],
  dhcp: 'full' | 'proxy',
  { workers, through = [] }: OwnServerSettings = {},
): Promise<OwnServer> {
  await startRouter(network, { gives: dhcp === 'proxy' ? 'addresses' : 'nothing' })
  const state = join(network.directory, 'state')
  mkdirSync(state, { recursive: true })
  chownSync(state, ordinaryUser.uid, ordinaryUser.gid)
  const full = ['--range', '10.66.0.100-10.66.0.199', '--network', '10.66.0.0/24', '--force']
  const command = [
    ...asServiceUser(),
    ...[...through, process.execPath, cli, 'serve', ...images],
    ...['--dhcp', dhcp, '--listen', network.server, '--interface', network.bridge],
    ...['--allow', 'any', '--state', state, '--json', ...(dhcp === 'full' ? full : [])],
    ...workersFlag(workers),
  ]
  const start = async () => {
    const started = network.start('netimage', command, /^error: /)
    await started.waitFor(/^on 10\.66\.0\.1 /)
    return started
  }
  const siteCommand = (...args: string[]) => [
    ...asServiceUser(),
    ...[process.execPath, cli, 'site', ...args, '--state', state],
  ]
  let program = await start()
  return {
    siteCommand,
    get program() {
      return program
    },
    async restart() {
      await program.kill()
      program = await start()
    },
    async boots(mac) {
      const shown = await network.run([
        ...[process.execPath, cli, 'boots', mac, '--state', state, '--json'],
      ])
      return v.parse(bootsSchema, JSON.parse(shown)).boots
    },
    async site(...args) {
      return JSON.parse(await network.run(siteCommand(...args, '--json')))
    },
  }
}

const afterLoading = ['mount', 'init', 'registered']

/** The boot must have all these steps; if `isWhole`, also all later steps. */
export function assertBoot(
  boot: OwnBoot | undefined,
  loading: readonly string[],
  isWhole: boolean,
): void {
  assert.ok(boot, 'no boot was recorded')
  if (isWhole) assert.equal(boot.step, 'registered', JSON.stringify(boot))
  const seen = Object.keys(boot.steps).filter((step) => isWhole || !afterLoading.includes(step))
  // Some loaders fetch the initrd first.
  const expected = [...loading, ...(isWhole ? afterLoading : [])]
  assert.deepEqual(seen.toSorted(), expected.toSorted(), JSON.stringify(boot))
}
