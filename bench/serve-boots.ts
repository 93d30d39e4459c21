/**
 * Many machines boot at once. Measures the time until the last one is up, with `netimage serve` and
 * with dnsmasq and nfs-ganesha. The requests are from a recorded boot: see boot-requests.txt.
 *
 *     node bench/serve-boots.ts [--rounds 3] [--way tftp]… [--workers 0]… [machines…]
 *
 * Each way, each number of workers and each number of machines is measured apart. Default: 100 machines, all
 * ways (bench/boot-ways.ts), and the number of workers that the server chooses.
 *
 * Needs root, a C compiler, and the Debian packages dnsmasq-base, nfs-ganesha-vfs and rpcbind. All
 * files are in the directory for temporary files, which should be on a disk, because machines
 * write.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import * as v from 'valibot'

import { ganeshaConfiguration } from '../test/e2e/support/configuration.ts'
import { startDnsmasq, startGanesha } from '../test/e2e/support/daemons.ts'
import type { Network } from '../test/e2e/support/network.ts'
import type { Program } from '../test/e2e/support/program.ts'
import { configure } from '../test/e2e/support/servers.ts'
import { cli } from '../test/support/netimage.ts'
import { makeWorkspace } from '../test/support/workspace.ts'
import { ways, type Way } from './boot-ways.ts'
import { peakMemory } from './peak-memory.ts'
import { countProcessorTime } from './processor-time.ts'
import { openWideNetwork, prepareBoots, wide } from './recorded-boots.ts'
import { beginTable, measured, mebibytes, median } from './report.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    way: { type: 'string', multiple: true, default: [...ways] },
    workers: { type: 'string', multiple: true },
  },
})
const chosenWays = v.parse(v.array(v.picklist(ways)), values.way)
const machineCounts = positionals.length > 0 ? positionals.map(Number) : [100]

interface Contender {
  name: string
  way: Way
  /** `%d` is the number of the machine. */
  mounted: string
  start: (network: Network) => Promise<Program[]>
}

/** The figures of one round. */
interface Round {
  contender: string
  /** Seconds from power-on, one value a machine: until it has its address, its files, and is up. */
  address: number[]
  files: number[]
  up: number[]
  /** Seconds of processor time. */
  servers: number
  clients: number
  /** Resident memory in bytes: the sum of the peaks of all processes. */
  peak: number
}

/** In the order of `figuresOf`. */
const columns = [
  ...['address, median', 'files, median', 'files, last', 'up, median', 'up, last'],
  ...['servers, processor', 'machines, processor', 'peak memory'],
]

const workspace = makeWorkspace('bench-boots')
const rootPath = '/srv/machine'
const { subnet, range } = wide
try {
  const { client, image, rootTree, requests } = await prepareBoots(workspace, rootPath, chosenWays)
  await measured(async () => {
    for (const machines of machineCounts) {
      const printRow = beginTable(`${machines} machines`, columns)
      const contenders = contendersFor(machines, image, rootTree)
      const results: Round[] = []
      for (let round = 0; round < Number(values.rounds); round++) {
        for (const contender of contenders) {
          const command = (network: Network) => [
            ...[client, requests(contender.way), network.server, network.bridge],
            ...[contender.mounted, `${machines}`],
          ]
          const result = await measureRound(contender, command)
          results.push(result)
          printRow(contender.name, figuresOf([result]))
        }
      }
      for (const [name, ofRow] of Map.groupBy(results, ({ contender }) => contender)) {
        printRow(`${name}: median`, figuresOf(ofRow))
      }
    }
  })
} finally {
  workspace.remove()
}

function contendersFor(machines: number, image: string, rootTree: string): Contender[] {
  const workers = values.workers ?? [undefined]
  return chosenWays.flatMap((way): Contender[] => [
    // dnsmasq has no HTTP.
    ...(way === 'tftp' || way === 'pi-tftp'
      ? [
          {
            ...{ name: `dnsmasq and ganesha, ${way}`, way, mounted: `${rootPath}-%d` },
            start: (network: Network) => startOthers(network, image, copyRoots(rootTree, machines)),
          },
        ]
      : []),
    ...workers.map((count) => ({
      name: `netimage, ${way}${count === undefined ? '' : `, ${count} workers`}`,
      ...{ way, mounted: rootPath },
      start: async (network: Network) => [await startOwn(network, image, count)],
    })),
  ])
}

async function startOthers(
  network: Network,
  image: string,
  roots: Readonly<Record<string, string>>,
): Promise<Program[]> {
  const lines = await configure(network, 'dnsmasq', image, [
    ...['--range', range, '--network', subnet],
  ])
  // Without these options, each address takes three seconds, and the 51st machine gets no file.
  const more = ['no-ping', 'tftp-max=1000', '']
  const dnsmasq = await startDnsmasq(network, [lines, ...more].join('\n'))
  return [dnsmasq, await startGanesha(network, ganeshaConfiguration(roots))]
}

/**
 * Makes a root for each machine. The roots share files, because a boot changes no existing file.
 */
function copyRoots(rootTree: string, machines: number): Record<string, string> {
  const roots = workspace.path('roots')
  rmSync(roots, { recursive: true, force: true })
  mkdirSync(roots)
  const all = Array.from({ length: machines }, (_, index) => index + 1)
  for (const number of all) execFileSync('cp', ['-al', rootTree, join(roots, `${number}`)])
  return Object.fromEntries(
    all.map((number) => [`${rootPath}-${number}`, join(roots, `${number}`)]),
  )
}

async function startOwn(
  network: Network,
  image: string,
  count: string | undefined,
): Promise<Program> {
  const { server, bridge } = network
  const state = join(network.directory, 'state')
  mkdirSync(state)
  const command = [
    ...[process.execPath, cli, 'serve', image, '--json', '--allow', 'any', '--state', state],
    ...['--listen', server, '--interface', bridge],
    ...['--dhcp', 'full', '--range', range, '--network', subnet, '--force'],
    ...(count === undefined ? [] : ['--workers', count]),
  ]
  const program = network.start('netimage', command, /^error: /)
  await program.waitFor(/^on 10\.66\.0\.1 /)
  return program
}

async function measureRound(
  { name, start }: Contender,
  command: (network: Network) => readonly string[],
): Promise<Round> {
  await using network = await openWideNetwork('bench-boots')
  const running = await start(network)
  execFileSync('sync')
  const used = running.map(({ pid }) => countProcessorTime(pid))
  const lines = (await network.run(command(network))).trim().split('\n')
  const numbers = (kind: string) =>
    lines
      .map((line) => line.split(' '))
      .filter(([first]) => first === kind)
      .map(([, ...values]) => values.map(Number))
  const booted = numbers('machine')
  const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0)
  return {
    contender: name,
    address: booted.map(([seconds = 0]) => seconds),
    files: booted.map(([, seconds = 0]) => seconds),
    up: booted.map(([, , seconds = 0]) => seconds),
    servers: sum(used.map((seconds) => seconds())),
    clients: numbers('processor')[0]?.[0] ?? 0,
    peak: sum(running.map(({ pid }) => peakMemory(pid).sum)),
  }
}

/** @returns the medians of the rounds */
function figuresOf(rounds: readonly Round[]): string[] {
  const of = (figure: (round: Round) => number) => median(rounds.map(figure))
  const last = (seconds: readonly number[]) => Math.max(...seconds)
  const seconds = [
    of(({ address }) => median(address)),
    of(({ files }) => median(files)),
    of(({ files }) => last(files)),
    of(({ up }) => median(up)),
    of(({ up }) => last(up)),
    of(({ servers }) => servers),
    of(({ clients }) => clients),
  ]
  return [...seconds.map((each) => `${each.toFixed(1)} s`), mebibytes(of(({ peak }) => peak))]
}
