/**
 * Finds how much longer machines take to boot while another machine of the same server asks it to publish systems, as
 * fast as it can.
 *
 *     node bench/hostile-boots.ts [--rounds 5] [--workers 0] [--machines 1]
 *
 * In each round, some machines boot without the hostile one, and then some with it. They are those of
 * bench/serve-boots.ts, boot by HTTP, and do nothing between two requests: in a real boot, the same wait for the server
 * is a smaller part of the whole. Needs root, a C compiler, and `TMPDIR` on a disk.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { cli } from '../test/support/netimage.ts'
import { makeWorkspace } from '../test/support/workspace.ts'
import { countProcessorTime } from './processor-time.ts'
import { openWideNetwork, prepareBoots, wide } from './recorded-boots.ts'
import { beginTable, measured, median } from './report.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    workers: { type: 'string', default: '0' },
    machines: { type: 'string', default: '1' },
  },
})
const machines = Number(values.machines)
/** Of the hostile machine; no address that the server gives. */
const hostile = '10.66.3.252'
const rootPath = '/srv/machine'

interface Round {
  /** Seconds from power-on until it is up, one value a machine. */
  up: number[]
  /** Seconds of processor time of the server, with what it did for the hostile machine. */
  server: number
  /** Requests to publish, a second. */
  requests: number
}

const workspace = makeWorkspace('bench-hostile')
try {
  await measured(run)
} finally {
  workspace.remove()
}

async function run(): Promise<void> {
  const { client, image, requests } = await prepareBoots(workspace, rootPath, ['http'])
  await using network = await openWideNetwork('bench-hostile')
  const { server, bridge } = network
  await network.run(['ip', 'address', 'add', `${hostile}/22`, 'broadcast', '+', 'dev', bridge])
  const state = join(network.directory, 'state')
  mkdirSync(state)
  const program = network.start('netimage', [
    ...[process.execPath, cli, 'serve', image, '--json', '--allow', 'any', '--state', state],
    ...['--listen', server, '--interface', bridge, '--workers', values.workers, '--force'],
    ...['--dhcp', 'full', '--range', wide.range, '--network', wide.subnet],
  ])
  await program.waitFor(/^on 10\.66\.0\.1 /)
  const used = countProcessorTime(program.pid)

  let next = 1
  async function boot(): Promise<Pick<Round, 'up' | 'server'>> {
    const before = used()
    const command = [client, requests('http'), server, bridge, rootPath, `${machines}`, `${next}`]
    const output = await network.run(command)
    next += machines
    const up = output
      .split('\n')
      .filter((line) => line.startsWith('machine '))
      .map((line) => Number(line.split(' ')[3]))
    return { up, server: used() - before }
  }

  async function bootBesideHostile(): Promise<Round> {
    const machine = join(import.meta.dirname, 'hostile-machine.ts')
    const args = [server, '2049', hostile, rootPath]
    // It has a processor of its own, except here.
    const other = network.start('hostile', ['nice', process.execPath, machine, ...args])
    const told = () => Number(other.lines().at(-1)?.text)
    try {
      await other.waitFor(/^[1-9]\d*$/)
      const [before, began] = [told(), performance.now()]
      const booted = await boot()
      return { ...booted, requests: (told() - before) / ((performance.now() - began) / 1000) }
    } finally {
      await other.kill()
    }
  }

  // The server compiles its code.
  for (let warm = 0; warm < 3; warm++) await boot()
  const columns = ['up, median', 'up, last', 'server, processor', 'requests a second']
  const printRow = beginTable(`${machines} machines, ${values.workers} workers`, columns)
  const rounds: Record<string, Round[]> = { alone: [], 'beside the hostile machine': [] }
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [name, results] of Object.entries(rounds)) {
      const result =
        name === 'alone' ? { ...(await boot()), requests: 0 } : await bootBesideHostile()
      results.push(result)
      printRow(name, figuresOf([result]))
    }
  }
  for (const [name, results] of Object.entries(rounds))
    printRow(`${name}: median`, figuresOf(results))
}

function figuresOf(rounds: readonly Round[]): string[] {
  const of = (figure: (round: Round) => number) => median(rounds.map(figure))
  const seconds = [
    of(({ up }) => median(up)),
    of(({ up }) => Math.max(...up)),
    of(({ server }) => server),
  ]
  return [
    ...seconds.map((each) => `${each.toFixed(2)} s`),
    of(({ requests }) => requests).toFixed(0),
  ]
}
