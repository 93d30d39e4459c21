/**
 * Many machines boot at once. Measures the time until the last one is up, with `netimage serve` and
 * with dnsmasq and nfs-ganesha. The requests are from a recorded boot: see boot-requests.txt.
 *
 *     node bench/serve-boots.ts [machines] [rounds] [workers…]
 *
 * Each number of workers is measured apart. Default: that of the server.
 *
 * Needs root, a C compiler, and the Debian packages dnsmasq-base, nfs-ganesha-vfs and rpcbind. All
 * files are in the directory for temporary files, which should be on a disk, because machines
 * write.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { ganeshaConfiguration } from '../test/e2e/support/configuration.ts'
import { startDnsmasq, startGanesha } from '../test/e2e/support/daemons.ts'
import { openNetwork, type Network } from '../test/e2e/support/network.ts'
import type { Program } from '../test/e2e/support/program.ts'
import { configure } from '../test/e2e/support/servers.ts'
import { cli } from '../test/support/netimage.ts'
import { makeWorkspace } from '../test/support/workspace.ts'
import { peakMemory } from './peak-memory.ts'
import { countProcessorTime } from './processor-time.ts'
import { buildRecordedImage } from './recorded-image.ts'
import { beginTable, measured, median, print } from './report.ts'

const machines = Number(process.argv[2] ?? 100)
const rounds = Number(process.argv[3] ?? 3)
const workers = process.argv.length > 4 ? process.argv.slice(4) : [undefined]
const requests = join(import.meta.dirname, 'boot-requests.txt')

interface Contender {
  name: string
  transport: 'tftp' | 'http'
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

const workspace = makeWorkspace('bench-boots')
const rootPath = '/srv/machine'
const range = '10.66.0.20-10.66.0.250'
try {
  const client = workspace.path('client')
  const source = join(import.meta.dirname, 'boot-client.c')
  execFileSync('cc', ['-O2', '-o', client, source], { stdio: 'inherit' })
  const lines = readFileSync(requests, 'utf8').split('\n')
  const { image, rootTree } = await buildRecordedImage(workspace, lines, `10.66.0.1:${rootPath},v3`)

  const contenders: Contender[] = [
    {
      name: 'dnsmasq and ganesha',
      transport: 'tftp',
      mounted: `${rootPath}-%d`,
      async start(network) {
        const flags = ['--range', range]
        const lines = await configure(network, 'dnsmasq', image, flags)
        // Without these options, each address takes three seconds, and the 51st machine gets no
        // file.
        const more = ['no-ping', 'tftp-max=1000', '']
        const dnsmasq = await startDnsmasq(network, [lines, ...more].join('\n'))
        const roots = ganeshaConfiguration(copyRoots(rootTree))
        return [dnsmasq, await startGanesha(network, roots)]
      },
    },
    ...(['tftp', 'http'] as const).flatMap((transport) =>
      workers.map((count): Contender => ({
        name: `netimage, ${transport.toUpperCase()}${count === undefined ? '' : `, ${count} workers`}`,
        transport,
        mounted: rootPath,
        start: async (network) => [await startOwn(network, image, count)],
      })),
    ),
  ]
  print(`${machines} machines`)
  const results: Round[] = []
  await measured(async () => {
    for (let round = 0; round < rounds; round++) {
      for (const contender of contenders) results.push(await measureRound(contender, client))
    }
  })
  printFigures(results)
} finally {
  workspace.remove()
}

/**
 * Makes a root for each machine. The roots share files, because a boot changes no existing file.
 */
function copyRoots(rootTree: string): Record<string, string> {
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
    ...['--dhcp', 'full', '--range', range, '--network', '10.66.0.0/24', '--force'],
    ...(count === undefined ? [] : ['--workers', count]),
  ]
  const program = network.start('netimage', command, /^error: /)
  await program.waitFor(/^on 10\.66\.0\.1 /)
  return program
}

async function measureRound(
  { name, transport, mounted, start }: Contender,
  client: string,
): Promise<Round> {
  await using network = await openNetwork('bench-boots')
  const running = await start(network)
  execFileSync('sync')
  const used = running.map(({ pid }) => countProcessorTime(pid))
  const { server, bridge } = network
  const args = [requests, server, bridge, mounted, `${machines}`, transport]
  const lines = (await network.run([client, ...args])).trim().split('\n')
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

/** Prints medians of the rounds, and all rounds of the most important figure. */
function printFigures(results: readonly Round[]): void {
  const ofContenders = Map.groupBy(results, ({ contender }) => contender)
  const middle = (of: (round: Round) => number) => (list: readonly Round[]) =>
    median(list.map(of)).toFixed(1)
  const last = (seconds: number[]) => Math.max(...seconds)
  const rows: Record<string, (list: readonly Round[]) => string> = {
    'address, median machine, s': middle(({ address }) => median(address)),
    'boot files, median machine, s': middle(({ files }) => median(files)),
    'boot files, last machine, s': middle(({ files }) => last(files)),
    'up, median machine, s': middle(({ up }) => median(up)),
    'up, last machine, s': middle(({ up }) => last(up)),
    'of each round': (list) => list.map(({ up }) => last(up).toFixed(1)).join(' '),
    'processor time of servers, s': middle(({ servers }) => servers),
    'of all machines, s': middle(({ clients }) => clients),
    'peak memory, MiB': middle(({ peak }) => peak / 2 ** 20),
  }
  const printRow = beginTable('', [...ofContenders.keys()])
  for (const [name, of] of Object.entries(rows)) printRow(name, [...ofContenders.values()].map(of))
}
