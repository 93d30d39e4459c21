/**
 * Measures how fast the NFS server answers, compared with nfs-ganesha on the same tree in one run.
 *
 *     node bench/serve-nfs.ts [rounds]
 *
 * Needs root, a C compiler, and the Debian packages libnfs-dev, nfs-ganesha-vfs and rpcbind. All
 * files are in the directory for temporary files, which should be on a disk, because both servers
 * write there.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'

import { ganeshaConfiguration } from '../test/e2e/support/configuration.ts'
import { startGanesha } from '../test/e2e/support/daemons.ts'
import { openNetwork, type Network } from '../test/e2e/support/network.ts'
import type { Program } from '../test/e2e/support/program.ts'
import { median } from './measure.ts'
import { usage } from './usage.ts'

const rounds = Number(process.argv[2] ?? 7)
const units: Record<string, string> = {
  'read-64k': 'MB/s',
  'read-64k-16': 'MB/s',
  'read-1m': 'MB/s',
  getattr: 'calls/s',
  stat: 'paths/s',
  'stat-16': 'paths/s',
  readdirplus: 'entries/s',
  'write-sync': 'writes/s',
  'write-sync-16': 'writes/s',
  'write-commit': 'writes/s',
  create: 'files/s',
  'create-16': 'files/s',
  'start-cold': 'starts/s',
  'walk-cold': 'nodes/s',
  'walk-warm': 'nodes/s',
}

interface Server {
  name: string
  url: (network: Network) => string
  /** Returns when the server answers. */
  start: (network: Network) => Promise<Program>
}

const directory = mkdtempSync(join(tmpdir(), 'netimage-bench-nfs-'))
const tree = join(directory, 'tree')
const program = join(import.meta.dirname, 'serve-nfs-program.ts')

const servers: Server[] = [
  {
    name: 'ganesha',
    url: () => 'nfs://127.0.0.1/tree',
    start: (network) => startGanesha(network, ganeshaConfiguration({ '/tree': tree })),
  },
  {
    name: 'netimage',
    url: ({ server }) => `nfs://${server}/tree?nfsport=22049&mountport=22049`,
    async start(network) {
      const layer = mkdtempSync(join(directory, 'layer-'))
      const command = [process.execPath, program, network.server, '22049', tree, layer]
      const server = network.start('netimage', command)
      await server.waitFor(/^ready$/)
      return server
    },
  },
]

const samples = new Map<string, number[]>()
const peaks = new Map<string, number>()
try {
  const client = join(directory, 'client')
  const source = join(import.meta.dirname, 'nfs-client.c')
  const flags = ['-O2', '-D_FILE_OFFSET_BITS=64', '-o', client, source, '-lnfs']
  execFileSync('cc', flags, { stdio: 'inherit' })
  makeTree()
  process.stdout.write(`load before: ${loadavg()[0]?.toFixed(2)}\n`)
  await measureSideBySide(client)
  await measureWalks(client)
  printTable()
} finally {
  rmSync(directory, { recursive: true })
}

function makeTree(): void {
  mkdirSync(join(tree, 'directory'), { recursive: true })
  writeFileSync(join(tree, 'file'), randomBytes(64 * 2 ** 20))
  for (let index = 0; index < 2000; index++)
    writeFileSync(join(tree, 'directory', `file${index}`), '')
  for (let index = 0; index < 20_000; index++) {
    const folder = join(tree, 'tree', `directory${index % 200}`)
    if (index < 200) mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, `file${index}`), `${index}`)
  }
}

/** Both servers run, and the client measures them in turn. */
async function measureSideBySide(client: string): Promise<void> {
  await using network = await openNetwork('bench-nfs')
  const running: Program[] = []
  for (const server of servers) running.push(await server.start(network))
  for (let round = 0; round < rounds; round++) {
    for (const kind of ['read', 'write']) {
      for (const { name, url } of servers) {
        // Unwritten data of one server must not keep the disk busy while we measure the other.
        execFileSync('sync')
        addSamples(name, await network.run([client, url(network), kind]))
      }
    }
  }
  for (const [index, { name }] of servers.entries()) addPeak(name, running[index])
}

/** Only one server runs. It was just started, and the kernel has none of its files in memory. */
async function measureWalks(client: string): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (const { name, url, start } of servers) {
      await using network = await openNetwork('bench-nfs-walk')
      execFileSync('sync')
      writeFileSync('/proc/sys/vm/drop_caches', '3')
      const started = performance.now()
      const server = await start(network)
      addSample(`${name} start-cold`, 1000 / (performance.now() - started))
      addSamples(name, await network.run([client, url(network), 'walk']))
      addPeak(name, server)
    }
  }
}

function addSamples(server: string, output: string): void {
  for (const line of output.trim().split('\n')) {
    const [measurement = '', value] = line.split(' ')
    addSample(`${server} ${measurement}`, Number(value))
  }
}

function addSample(key: string, value: number): void {
  samples.set(key, [...(samples.get(key) ?? []), value])
}

function addPeak(server: string, running: Program | undefined): void {
  const peak = running ? usage(running.pid).peak : 0
  peaks.set(server, Math.max(peak, peaks.get(server) ?? 0))
}

/** Prints medians, and the range of the middle half of the rounds as a share of the median. */
function printTable(): void {
  const names = servers.map(({ name }) => name.padStart(16)).join('')
  process.stdout.write(`${''.padEnd(15)}${names}  ratio\n`)
  for (const [measurement, unit] of Object.entries(units)) {
    const figures = servers.map(({ name }) => {
      const values = samples.get(`${name} ${measurement}`) ?? []
      return { middle: median(values), spread: spreadOf(values) }
    })
    const cells = figures.map(({ middle, spread }) => {
      const value = middle < 10 ? middle.toFixed(2) : middle.toFixed(0)
      return `${value} ±${(50 * spread).toFixed(0).padStart(2)}%`.padStart(16)
    })
    const [theirs, own] = figures
    const ratio = ((own?.middle ?? 0) / (theirs?.middle ?? 0)).toFixed(2)
    process.stdout.write(`${measurement.padEnd(15)}${cells.join('')}  ${ratio}  ${unit}\n`)
  }
  const memory = servers.map(({ name }) => ((peaks.get(name) ?? 0) / 2 ** 20).toFixed(0))
  process.stdout.write(`peak memory, MiB: ${memory.join(' and ')}\n`)
  process.stdout.write(`load after: ${loadavg()[0]?.toFixed(2)}\n`)
}

function spreadOf(values: number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? 0
  return (at(0.75) - at(0.25)) / at(0.5)
}
