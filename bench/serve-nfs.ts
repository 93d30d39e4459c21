/**
 * Measures how fast the NFS server answers and how much processor time it needs, compared with
 * nfs-ganesha on the same tree in one run.
 *
 *     node bench/serve-nfs.ts [rounds]
 *
 * Needs root, two processors, a C compiler, and the Debian packages libnfs-dev, nfs-ganesha-vfs and rpcbind.
 * All files are in the directory for temporary files, which should be on a disk, because both servers
 * write there. The server unfs3 is not compared: Debian 12 does not have it.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { ganeshaConfiguration } from '../test/e2e/support/configuration.ts'
import { startGanesha } from '../test/e2e/support/daemons.ts'
import { openNetwork, type Host, type Network } from '../test/e2e/support/network.ts'
import type { Program } from '../test/e2e/support/program.ts'
import { beginTable, measured, median } from './report.ts'
import {
  beginComparison,
  compareRows,
  countServer,
  placed,
  placings,
  type Comparison,
  type Placing,
  type Server,
  type Work,
} from './side-by-side.ts'

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
const rows = Object.fromEntries(
  Object.entries(measurements).map(([measurement, unit]) => [measurement, { measurement, unit }]),
)
const walks = ['walk-cold', 'walk-warm']

interface Contender {
  name: string
  url: (network: Network) => string
  /** Returns when the server answers. */
  start: (host: Host, address: string) => Promise<Program>
}

const directory = mkdtempSync(join(tmpdir(), 'netimage-bench-nfs-'))
const tree = join(directory, 'tree')
const client = join(directory, 'client')
const program = join(import.meta.dirname, 'serve-nfs-program.ts')

const contenders: Contender[] = [
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

/** Seconds. */
const starts: { name: string; seconds: number }[] = []
try {
  const source = join(import.meta.dirname, 'nfs-client.c')
  const flags = ['-O2', '-D_FILE_OFFSET_BITS=64', '-o', client, source, '-lnfs']
  execFileSync('cc', flags, { stdio: 'inherit' })
  makeTree()
  await measured(async () => {
    for (const placing of placings) await compare(placing)
    const printStart = beginTable('', ['starts in'])
    for (const [name, ofServer] of Map.groupBy(starts, (start) => start.name)) {
      printStart(name, [`${median(ofServer.map(({ seconds }) => seconds)).toFixed(2)} s`])
    }
  })
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

async function compare(placing: Placing): Promise<void> {
  const names = contenders.map(({ name }) => name)
  const comparison = beginComparison(placing.name, names.slice(0, 1), names.slice(1))
  await compareAtOnce(comparison, placing)
  await compareWalks(comparison, placing)
  comparison.printPeaks()
}

/** Both servers run, and the client measures them in turn. */
async function compareAtOnce(comparison: Comparison, placing: Placing): Promise<void> {
  await using network = await openNetwork('bench-nfs')
  const servers: (Server & { url: string })[] = []
  for (const { name, url, start } of contenders) {
    const program = await start(placed(network, placing.servers), network.server)
    servers.push({ ...countServer(name, program), url: url(network) })
  }
  await compareRows(comparison, rounds, servers, rows, ({ measurement }, { url }) =>
    work(network, placing, url, measurement),
  )
}

/** Only one server runs. It was just started, and the kernel has none of its files in memory. */
async function compareWalks(comparison: Comparison, placing: Placing): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (const { name, url, start } of contenders) {
      await using network = await openNetwork('bench-nfs-walk')
      execFileSync('sync')
      writeFileSync('/proc/sys/vm/drop_caches', '3')
      const started = performance.now()
      const program = await start(placed(network, placing.servers), network.server)
      starts.push({ name, seconds: (performance.now() - started) / 1000 })
      const server = countServer(name, program)
      for (const walk of walks) {
        await comparison.measure(walk, server, () => work(network, placing, url(network), 'walk'))
      }
      comparison.notePeak(server)
    }
  }
  for (const walk of walks) comparison.printRow(walk, 'nodes')
}

async function work(
  network: Network,
  placing: Placing,
  url: string,
  measurement: string,
): Promise<Work> {
  // Unwritten data of one server must not keep the disk busy while we measure the other.
  execFileSync('sync')
  const output = await placed(network, placing.clients).run([client, url, measurement])
  const [rate = Number.NaN, amount = Number.NaN] = output.split(' ').map(Number)
  return { amount, seconds: amount / rate }
}
