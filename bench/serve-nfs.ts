/**
 * Measures how fast the NFS server answers and how much processor time it needs, compared with
 * nfs-ganesha on the same tree in one run.
 *
 *     node bench/serve-nfs.ts [rounds]
 *
 * Measures twice: servers and client use all cores; and the servers have core 0 alone, and the client
 * core 1.
 *
 * Needs root, two cores, a C compiler, and the Debian packages libnfs-dev, nfs-ganesha-vfs and rpcbind.
 * All files are in the directory for temporary files, which should be on a disk, because both servers
 * write there. The server unfs3 is not compared: Debian 12 does not have it.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'

import { ganeshaConfiguration } from '../test/e2e/support/configuration.ts'
import { startGanesha } from '../test/e2e/support/daemons.ts'
import { openNetwork, type Host, type Network } from '../test/e2e/support/network.ts'
import type { Program } from '../test/e2e/support/program.ts'
import { median } from './measure.ts'
import { usage } from './usage.ts'

const rounds = Number(process.argv[2] ?? 7)
/** Measurements of bench/nfs-client.c, and their units. */
const measurements: Record<string, string> = {
  'read-64k': 'MB',
  'read-64k-16': 'MB',
  'read-1m': 'MB',
  getattr: 'calls',
  stat: 'paths',
  'stat-16': 'paths',
  readdirplus: 'entries',
  'write-sync': 'writes',
  'write-sync-16': 'writes',
  'write-commit': 'writes',
  create: 'files',
  'create-16': 'files',
}
const walks: Record<string, string> = { 'walk-cold': 'nodes', 'walk-warm': 'nodes' }

const placings = ['on all cores', 'servers on one core, the client on the other'] as const
type Placing = (typeof placings)[number]
const [, apart] = placings

interface Server {
  name: string
  url: (network: Network) => string
  /** Returns when the server answers. */
  start: (host: Host, address: string) => Promise<Program>
}

const directory = mkdtempSync(join(tmpdir(), 'netimage-bench-nfs-'))
const tree = join(directory, 'tree')
const client = join(directory, 'client')
const program = join(import.meta.dirname, 'serve-nfs-program.ts')

const servers: Server[] = [
  {
    name: 'ganesha',
    url: () => 'nfs://127.0.0.1/tree',
    start: (host) => startGanesha(host, ganeshaConfiguration({ '/tree': tree })),
  },
  {
    name: 'netimage',
    url: ({ server }) => `nfs://${server}/tree?nfsport=22049&mountport=22049`,
    async start(host, address) {
      const layer = mkdtempSync(join(directory, 'layer-'))
      const command = [process.execPath, program, address, '22049', tree, layer]
      const server = host.start('netimage', command)
      await server.waitFor(/^ready$/)
      return server
    },
  },
]

/** By placing, server and measurement. */
const speeds = new Map<string, number[]>()
/** Microseconds of the server's processor time for each unit. */
const costs = new Map<string, number[]>()
const starts = new Map<string, number[]>()
/** Bytes. */
const peaks = new Map<string, number>()
try {
  const source = join(import.meta.dirname, 'nfs-client.c')
  const flags = ['-O2', '-D_FILE_OFFSET_BITS=64', '-o', client, source, '-lnfs']
  execFileSync('cc', flags, { stdio: 'inherit' })
  makeTree()
  process.stdout.write(`load before: ${loadavg()[0]?.toFixed(2)}\n`)
  for (const placing of placings) {
    await measureSideBySide(placing)
    await measureWalks(placing)
    printTable(placing)
  }
  printRest()
} finally {
  rmSync(directory, { recursive: true })
}

function makeTree(): void {
  mkdirSync(join(tree, 'directory'), { recursive: true })
  writeFileSync(join(tree, 'file'), randomBytes(64 * 2 ** 20))
  for (let index = 0; index < 2000; index++)
    writeFileSync(join(tree, 'directory', `file${index}`), '')
  for (let index = 0; index < 10_000; index++) {
    const folder = join(tree, 'tree', `directory${index % 100}`)
    if (index < 100) mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, `file${index}`), `${index}`)
  }
}

/** Both servers run, and the client measures them in turn. */
async function measureSideBySide(placing: Placing): Promise<void> {
  await using network = await openNetwork('bench-nfs')
  const running: Program[] = []
  for (const { start } of servers) {
    running.push(await start(onCore(network, placing, 0), network.server))
  }
  for (let round = 0; round < rounds; round++) {
    for (const measurement of Object.keys(measurements)) {
      for (const [index, { name, url }] of servers.entries()) {
        const key = keyOf(placing, name, measurement)
        await measure(network, placing, url(network), measurement, key, running[index])
      }
    }
  }
  for (const [index, { name }] of servers.entries()) notePeak(name, running[index])
}

/** Only one server runs. It was just started, and the kernel has none of its files in memory. */
async function measureWalks(placing: Placing): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (const { name, url, start } of servers) {
      await using network = await openNetwork('bench-nfs-walk')
      execFileSync('sync')
      writeFileSync('/proc/sys/vm/drop_caches', '3')
      const started = performance.now()
      const server = await start(onCore(network, placing, 0), network.server)
      add(starts, name, (performance.now() - started) / 1000)
      for (const walk of Object.keys(walks)) {
        const key = keyOf(placing, name, walk)
        await measure(network, placing, url(network), 'walk', key, server)
      }
      notePeak(name, server)
    }
  }
}

async function measure(
  network: Network,
  placing: Placing,
  url: string,
  measurement: string,
  key: string,
  server: Program | undefined,
): Promise<void> {
  // Unwritten data of one server must not keep the disk busy while we measure the other.
  execFileSync('sync')
  const before = server ? usage(server.pid).seconds : 0
  const output = await onCore(network, placing, 1).run([client, url, measurement])
  const seconds = server ? usage(server.pid).seconds - before : 0
  const [speed = 0, amount = 0] = output.split(' ').map(Number)
  add(speeds, key, speed)
  add(costs, key, (seconds * 1e6) / amount)
}

/** Runs programs on one core, if servers and client are apart. */
function onCore(host: Host, placing: Placing, core: number): Host {
  if (placing !== apart) return host
  const pinned = (command: readonly string[]) => ['taskset', '-c', String(core), ...command]
  return {
    ...host,
    start: (name, command, hopeless) => host.start(name, pinned(command), hopeless),
    run: (command) => host.run(pinned(command)),
  }
}

function keyOf(placing: Placing, server: string, measurement: string): string {
  return `${placing} ${server} ${measurement}`
}

function add(samples: Map<string, number[]>, key: string, value: number): void {
  samples.set(key, [...(samples.get(key) ?? []), value])
}

function notePeak(server: string, running: Program | undefined): void {
  const peak = running ? usage(running.pid).peak : 0
  peaks.set(server, Math.max(peak, peaks.get(server) ?? 0))
}

/** Prints medians, and the range of the middle half of the rounds as a share of the median. */
function printTable(placing: Placing): void {
  process.stdout.write(`\n${placing}; per second, and microseconds of processor time for each\n`)
  const names = servers.map(({ name }) => name.padStart(16)).join('')
  process.stdout.write(`${''.padEnd(15)}${names}  ratio${names}\n`)
  for (const [measurement, unit] of Object.entries({ ...measurements, ...walks })) {
    const keys = servers.map(({ name }) => keyOf(placing, name, measurement))
    const cells = (samples: Map<string, number[]>) =>
      keys.map((key) => shown(samples.get(key) ?? []).padStart(16)).join('')
    const [theirs, own] = keys.map((key) => median(speeds.get(key) ?? []))
    const ratio = ((own ?? 0) / (theirs ?? 0)).toFixed(2)
    const line = `${measurement.padEnd(15)}${cells(speeds)}   ${ratio}${cells(costs)}  ${unit}\n`
    process.stdout.write(line)
  }
}

function printRest(): void {
  for (const { name } of servers) {
    const peak = ((peaks.get(name) ?? 0) / 2 ** 20).toFixed(0)
    const start = median(starts.get(name) ?? []).toFixed(2)
    process.stdout.write(`${name}: peak memory ${peak} MiB, starts in ${start} s\n`)
  }
  process.stdout.write(`load after: ${loadavg()[0]?.toFixed(2)}\n`)
}

function shown(values: number[]): string {
  const middle = median(values)
  const digits = middle < 10 ? 2 : 0
  return `${middle.toFixed(digits)} ±${(50 * spreadOf(values)).toFixed(0).padStart(2)}%`
}

function spreadOf(values: number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? 0
  return (at(0.75) - at(0.25)) / at(0.5)
}
