/**
 * Measures how fast the TFTP server sends to one client, and to 100 clients at once, compared with
 * dnsmasq, tftpd-hpa and atftpd in one run. First all programs share two processors. Then the servers
 * have one of them, and the clients have the other.
 *
 *     node bench/serve-tftp.ts [rounds]
 *
 * Needs root, a C compiler, and the Debian packages atftp, curl, dnsmasq-base and tftpd-hpa. The
 * package atftpd conflicts with tftpd-hpa, so it is downloaded and unpacked, not installed.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { openNetwork } from '../test/e2e/support/network.ts'
import { median } from './measure.ts'
import { countProcessorTime } from './processor-time.ts'
import { usage } from './usage.ts'

const rounds = Number(process.argv[2] ?? 5)
const program = join(import.meta.dirname, 'serve-tftp-program.ts')
const peers = ['dnsmasq', 'tftpd-hpa', 'atftpd']

/** One client fetches `large`; each of many clients fetches `small`. */
const files = { large: 32 << 20, small: 512 << 10 }

interface Row {
  /** The bytes that all clients fetch together. */
  bytes: number
  command: (address: string) => string[]
}

interface Figures {
  /** MiB/s, one value a round. */
  rates: number[]
  /** Processor time of the server, in seconds, one value a round. */
  processor: number[]
}

const directory = mkdtempSync('/dev/shm/netimage-bench-tftp-')
const manyClients = join(directory, 'tftp-client')
const rows: Record<string, Row> = {
  'curl 512': curl(512),
  'curl 1428': curl(1428),
  'curl 1468': curl(1468),
  'curl 8192': curl(8192),
  'curl 65464': curl(65464),
  'atftp 512, window 4': atftp(512, 4),
  'atftp 512, window 16': atftp(512, 16),
  'atftp 1428, window 4': atftp(1428, 4),
  'atftp 1428, window 16': atftp(1428, 16),
  '100 clients, 512': many(100, 512, 1),
  '100 clients, 1428': many(100, 1428, 1),
  '100 clients, 1428, window 4': many(100, 1428, 4),
}

function curl(blockSize: number): Row {
  return {
    bytes: files.large,
    command: (address) => [
      ...['curl', '--silent', '--show-error', '--tftp-blksize', `${blockSize}`],
      ...['--output', '/dev/null', `tftp://${address}/large`],
    ],
  }
}

function atftp(blockSize: number, windowSize: number): Row {
  return {
    bytes: files.large,
    command: (address) => [
      ...['atftp', '--option', `blksize ${blockSize}`, '--option', `windowsize ${windowSize}`],
      ...['-g', '-r', 'large', '-l', '/dev/null', address],
    ],
  }
}

function many(clients: number, blockSize: number, windowSize: number): Row {
  const numbers = [files.small, blockSize, windowSize, clients]
  return {
    bytes: clients * files.small,
    command: (address) => [manyClients, address, 'small', ...numbers.map(String)],
  }
}

/** The limits of 50 and 100 clients are the defaults of dnsmasq and atftpd. */
function serversOf(tree: string): Record<string, (address: string) => string[]> {
  const node = [process.execPath, program]
  return {
    dnsmasq: (address) => [
      ...['dnsmasq', '--no-daemon', '--conf-file=/dev/null', '--port=0', '--enable-tftp'],
      ...['--user=root', '--bind-interfaces', `--listen-address=${address}`, `--tftp-root=${tree}`],
      ...['--tftp-max=200', '--log-facility=/dev/null'],
    ],
    'tftpd-hpa': (address) => ['in.tftpd', '-L', '-a', `${address}:69`, '-s', tree, '-u', 'root'],
    atftpd: (address) => [
      ...[join(directory, 'usr/sbin/atftpd'), '--daemon', '--no-fork', '--maxthread', '200'],
      ...['--bind-address', address, '--logfile', '/dev/null', '--user', 'root.root', tree],
    ],
    netimage: (address) => [...node, address, tree],
    'one port': (address) => [...node, address, tree, 'single'],
  }
}

/** @param processors the processors of the servers and of the clients, for taskset(1) */
async function measureAll(
  tree: string,
  processors: { servers: string; clients: string },
): Promise<void> {
  await using network = await openNetwork('bench-tftp')
  const servers = Object.entries(serversOf(tree)).map(([name, command], index) => {
    const address = `127.0.0.${index + 1}`
    const pinned = ['taskset', '--cpu-list', processors.servers, ...command(address)]
    return { name, address, pid: network.start(name.replace(' ', '-'), pinned).pid }
  })
  await new Promise((resolve) => setTimeout(resolve, 2000))
  const running = servers.map((server) => {
    const group = `${server.name.replace(' ', '-')}-${processors.servers}`
    return { ...server, processorTime: countProcessorTime(group, server.pid) }
  })

  const timed = ['sh', '-ec', 'a=$(date +%s%N); "$@" >&2; echo $(($(date +%s%N) - a))', 'sh']
  const client = [...timed, 'taskset', '--cpu-list', processors.clients]
  const names = running.map(({ name }) => name)
  print('MiB/s (processor time, s)', [...names, 'of the fastest'])
  for (const [row, { bytes, command }] of Object.entries(rows)) {
    const results = new Map(names.map((name): [string, Figures] => [name, none()]))
    for (let round = 0; round < rounds; round++) {
      for (const { name, address, processorTime } of running) {
        const before = processorTime()
        const output = await network.run([...client, ...command(address)])
        const figures = results.get(name) ?? none()
        figures.rates.push(bytes / 2 ** 20 / (Number(output.trim()) / 1e9))
        figures.processor.push(processorTime() - before)
      }
    }
    printRow(row, results)
  }
  print(
    'peak memory of a process, MiB',
    running.map(({ pid }) => (usage(pid).peak / 2 ** 20).toFixed(0)),
  )
}

function none(): Figures {
  return { rates: [], processor: [] }
}

function printRow(row: string, results: ReadonlyMap<string, Figures>): void {
  const rates = new Map([...results].map(([name, { rates }]) => [name, median(rates)]))
  const fastest = Math.max(...peers.map((peer) => rates.get(peer) ?? 0))
  const cells = [...results].map(([name, { processor }]) => {
    const seconds = median(processor).toFixed(2)
    return `${(rates.get(name) ?? 0).toFixed(1)} (${seconds})`
  })
  print(row, [...cells, ((rates.get('netimage') ?? 0) / fastest).toFixed(2)])
}

function print(first: string, cells: readonly string[]): void {
  process.stdout.write(`${first.padEnd(31)}${cells.map((cell) => cell.padStart(16)).join('')}\n`)
}

try {
  const source = join(import.meta.dirname, 'tftp-client.c')
  execFileSync('cc', ['-O2', '-o', manyClients, source], { stdio: 'inherit' })
  const unpack = 'cd "$1"; apt-get download -qq atftpd; dpkg -x atftpd_*.deb .'
  execFileSync('sh', ['-euc', unpack, 'sh', directory], { stdio: 'inherit' })
  const tree = join(directory, 'tree')
  mkdirSync(tree)
  for (const [name, bytes] of Object.entries(files)) {
    writeFileSync(join(tree, name), randomBytes(bytes))
  }
  process.stdout.write('All programs on two processors\n')
  await measureAll(tree, { servers: '0,1', clients: '0,1' })
  process.stdout.write('\nThe servers on one processor, the clients on the other\n')
  await measureAll(tree, { servers: '0', clients: '1' })
} finally {
  rmSync(directory, { recursive: true })
}
