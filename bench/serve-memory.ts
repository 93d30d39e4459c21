/**
 * Measures the memory of `netimage serve`: of its front and of each shard, at the start, after some machines
 * have booted, and by the minute while machines boot again and again.
 *
 *     npm run build; nice node bench/serve-memory.ts [--minutes 60] [--workers 2] [--machines 100] [--a-minute 16]
 *
 * The server is the JavaScript of the package (`dist`), as people run it. The machines are those of
 * bench/serve-boots.ts, and boot by HTTP and by TFTP in turn. Needs root, a C compiler, and `TMPDIR` on a disk.
 */
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import * as v from 'valibot'

import { messageOf } from '../src/errors.ts'
import type { Network } from '../test/e2e/support/network.ts'
import { repository } from '../test/support/netimage.ts'
import { childrenOf } from '../test/support/processes.ts'
import { waitUntil } from '../test/support/waiting.ts'
import { makeWorkspace } from '../test/support/workspace.ts'
import { countProcessorTime } from './processor-time.ts'
import { openWideNetwork, prepareBoots, wide } from './recorded-boots.ts'
import { beginTable, measured } from './report.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    workers: { type: 'string', default: '2' },
    machines: { type: 'string', default: '100' },
    'a-minute': { type: 'string', default: '16' },
  },
})
const machines = Number(values.machines)
const columns = [
  ...['PSS', 'RSS', 'peak RSS', 'V8: used', 'V8: taken', 'buffers'],
  ...['rest, private', 'descriptors', 'databases', 'processor time'],
]
const ways = ['http', 'tftp'] as const
const rootPath = '/srv/machine'

const Usage = v.object({ heapUsed: v.number(), heapTotal: v.number(), external: v.number() })
type Usage = v.InferOutput<typeof Usage>

const workspace = makeWorkspace('bench-memory')
const reports = workspace.path('reports')
mkdirSync(reports)
/**
 * Runs in each process of the server: tells at SIGUSR2 what V8 says about the memory of the process, and at
 * SIGWINCH after a collection of all garbage. TypeScript would need memory for its compiler.
 */
const reporter = `
  import { renameSync, writeFileSync } from 'node:fs'
  import { setFlagsFromString } from 'node:v8'
  import { runInNewContext } from 'node:vm'
  const file = ${JSON.stringify(reports)} + '/' + process.pid
  const report = () => {
    writeFileSync(file + '.new', JSON.stringify(process.memoryUsage()))
    renameSync(file + '.new', file)
  }
  process.on('SIGUSR2', report)
  process.on('SIGWINCH', () => {
    setFlagsFromString('--expose-gc')
    runInNewContext('gc')()
    report()
  })`

try {
  await measured(run)
} finally {
  workspace.remove()
}

async function run(): Promise<void> {
  const { client, image, requests } = await prepareBoots(workspace, rootPath, ways)
  await using network = await openWideNetwork('bench-memory')
  const { server, bridge } = network
  const pid = await start(network, image)
  const used = countProcessorTime(pid)
  const boot = async (way: (typeof ways)[number], count: number, first: number) => {
    const command = [client, requests(way), server, bridge, rootPath]
    await network.run([...command, `${count}`, `${first}`])
  }

  const printRow = beginTable('MiB', columns)
  const print = async (name: string, signal: NodeJS.Signals = 'SIGUSR2') => {
    for (const [index, each] of processesOf(pid).entries()) {
      const seconds = index === 0 ? [`${used().toFixed(0)} s`] : []
      const who = index === 0 ? 'front' : `shard ${index}`
      printRow(`${name}: ${who}`, [...(await figuresOf(each, signal)), ...seconds])
    }
  }
  await print('start')
  for (const [before, count] of [0, 10, 50, machines].entries().filter(([, all]) => all > 0)) {
    const already = [0, 0, 10, 50][before] ?? 0
    if (count <= already) continue
    await boot('http', count - already, already + 1)
    await print(`${count} machines`)
  }
  const perMinute = Math.min(machines, Number(values['a-minute']))
  let [next, failed] = [1, 0]
  const began = Date.now()
  for (let minute = 1; minute <= Number(values.minutes); minute++) {
    if (next + perMinute - 1 > machines) next = 1
    try {
      await boot(ways[minute % ways.length] ?? 'http', perMinute, next)
    } catch (error) {
      failed++
      process.stderr.write(`${messageOf(error)}\n`)
    }
    next += perMinute
    await sleep(Math.max(0, began + minute * 60_000 - Date.now()))
    await print(`minute ${minute}`)
  }
  await print('after a collection of all garbage', 'SIGWINCH')
  process.stdout.write(`Rounds of boots that failed: ${failed}\n`)
}

async function start(network: Network, image: string): Promise<number> {
  const state = join(network.directory, 'state')
  mkdirSync(state)
  const options = `--import=data:text/javascript,${encodeURIComponent(reporter)}`
  const program = network.start('netimage', [
    ...['env', `NODE_OPTIONS=${options}`, process.execPath, join(repository, 'dist/cli.js')],
    ...['serve', image, '--json', '--allow', 'any', '--state', state, '--workers', values.workers],
    ...['--listen', network.server, '--interface', network.bridge, '--force'],
    ...['--dhcp', 'full', '--range', wide.range, '--network', wide.subnet],
  ])
  await program.waitFor(/^on 10\.66\.0\.1 /)
  return program.pid
}

/** The front, then its shards. */
function processesOf(pid: number): number[] {
  const below = childrenOf(pid).flatMap(processesOf)
  return targetOf(`/proc/${pid}/exe`) === process.execPath ? [pid, ...below] : below
}

/** The values of all columns but the last. */
async function figuresOf(pid: number, signal: NodeJS.Signals): Promise<string[]> {
  const { heapUsed, heapTotal, external } = await usageOf(pid, signal)
  const memory = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const field = (text: string, name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) * 1024
  const open = readdirSync(`/proc/${pid}/fd`).map((name) => targetOf(`/proc/${pid}/fd/${name}`))
  const sizes = [
    ...[field(memory, 'Pss'), field(memory, 'Rss'), field(status, 'VmHWM')],
    ...[heapUsed, heapTotal, external],
    field(memory, 'Pss_Anon') - heapTotal - external,
  ]
  return [
    ...sizes.map((bytes) => (bytes / 2 ** 20).toFixed(1)),
    `${open.length}`,
    `${open.filter((file) => /\.(db|sqlite)$/.test(file)).length}`,
  ]
}

function targetOf(link: string): string {
  try {
    return readlinkSync(link)
  } catch {
    // It was closed meanwhile.
    return ''
  }
}

async function usageOf(pid: number, signal: NodeJS.Signals): Promise<Usage> {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const own = /^NSpid:.*\s(\d+)$/m.exec(status)?.[1] ?? ''
  const file = join(reports, own)
  rmSync(file, { force: true })
  process.kill(pid, signal)
  await waitUntil(`process ${pid} reports`, () => readdirSync(reports).includes(own))
  return v.parse(Usage, JSON.parse(readFileSync(file, 'utf8')))
}
