/**
 * Measures how fast the TFTP server sends, compared with dnsmasq, tftpd-hpa and atftpd in one run.
 *
 *     node bench/serve-tftp.ts [rounds]
 *
 * Needs root, and the Debian packages atftp, curl, dnsmasq-base and tftpd-hpa. The package atftpd
 * conflicts with tftpd-hpa, so it is downloaded and unpacked, not installed.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { openNetwork } from '../test/e2e/support/network.ts'
import type { Program } from '../test/e2e/support/program.ts'
import { median } from './measure.ts'
import { usage } from './usage.ts'

const rounds = Number(process.argv[2] ?? 5)
const megabytes = 32
const program = join(import.meta.dirname, 'serve-tftp-program.ts')

const curl = (blockSize: number) => (address: string) => [
  ...[
    'curl',
    '--silent',
    '--show-error',
    '--tftp-blksize',
    `${blockSize}`,
    '--output',
    '/dev/null',
  ],
  `tftp://${address}/file`,
]
const atftp = (blockSize: number, windowSize: number) => (address: string) => [
  ...['atftp', '--option', `blksize ${blockSize}`, '--option', `windowsize ${windowSize}`],
  ...['-g', '-r', 'file', '-l', '/dev/null', address],
]
const clients: Record<string, (address: string) => string[]> = {
  'curl 512': curl(512),
  'curl 1428': curl(1428),
  'curl 1468': curl(1468),
  'curl 8192': curl(8192),
  'curl 65464': curl(65464),
  'atftp 512, window 4': atftp(512, 4),
  'atftp 512, window 16': atftp(512, 16),
  'atftp 1428, window 4': atftp(1428, 4),
  'atftp 1428, window 16': atftp(1428, 16),
}

const directory = mkdtempSync('/dev/shm/netimage-bench-tftp-')
try {
  const unpack = 'cd "$1"; apt-get download -qq atftpd; dpkg -x atftpd_*.deb .'
  execFileSync('sh', ['-euc', unpack, 'sh', directory], { stdio: 'inherit' })
  const tree = join(directory, 'tree')
  mkdirSync(tree)
  writeFileSync(join(tree, 'file'), randomBytes(megabytes * 2 ** 20))
  await using network = await openNetwork('bench-tftp')
  const servers: Record<string, (address: string) => string[]> = {
    dnsmasq: (address) => [
      ...['dnsmasq', '--no-daemon', '--conf-file=/dev/null', '--port=0', '--enable-tftp'],
      ...['--user=root', '--bind-interfaces', `--listen-address=${address}`, `--tftp-root=${tree}`],
    ],
    'tftpd-hpa': (address) => ['in.tftpd', '-L', '-a', `${address}:69`, '-s', tree, '-u', 'root'],
    atftpd: (address) => [
      ...[
        join(directory, 'usr/sbin/atftpd'),
        '--daemon',
        '--no-fork',
        '--bind-address',
        address,
        '--logfile',
        '/dev/null',
      ],
      ...['--user', 'root.root', tree],
    ],
    netimage: (address) => [process.execPath, program, address, tree],
    'one port': (address) => [process.execPath, program, address, tree, 'single'],
  }
  const running = new Map<string, { address: string; process: Program }>()
  for (const [index, [name, command]] of Object.entries(servers).entries()) {
    const address = `127.0.0.${index + 1}`
    running.set(name, { address, process: network.start(name.replace(' ', '-'), command(address)) })
  }
  await new Promise((resolve) => setTimeout(resolve, 2000))

  const samples = new Map<string, number[]>()
  const processorTime = new Map<string, number>()
  const timed = ['sh', '-ec', 'a=$(date +%s%N); "$@" >&2; echo $(($(date +%s%N) - a))', 'sh']
  for (let round = 0; round < rounds; round++) {
    for (const [client, command] of Object.entries(clients)) {
      for (const [server, { address, process }] of running) {
        const before = usage(process.pid).seconds
        const output = await network.run([...timed, ...command(address)])
        const key = `${server} ${client}`
        const rate = megabytes / (Number(output.trim()) / 1e9)
        samples.set(key, [...(samples.get(key) ?? []), rate])
        const used = usage(process.pid).seconds - before
        processorTime.set(key, (processorTime.get(key) ?? 0) + used / rounds)
      }
    }
  }

  const peers = ['dnsmasq', 'tftpd-hpa', 'atftpd']
  print('MiB/s: median, best (processor)', [...running.keys(), 'of the fastest'])
  for (const client of Object.keys(clients)) {
    const rates = (server: string) => samples.get(`${server} ${client}`) ?? []
    const cells = [...running.keys()].map((server) => {
      const seconds = (processorTime.get(`${server} ${client}`) ?? 0).toFixed(2)
      const figures = [median, best].map((of) => of(rates(server)).toFixed(1).padStart(7)).join('')
      // The processor time of tftpd-hpa is unknown: its child processes are not counted.
      return server === 'tftpd-hpa' ? `${figures}       ` : `${figures} (${seconds})`
    })
    const ratios = [median, best].map((of) => {
      const fastest = Math.max(...peers.map((peer) => of(rates(peer))))
      return (of(rates('netimage')) / fastest).toFixed(2)
    })
    print(client, [...cells, ratios.join(' ')])
  }
  print(
    'peak memory, MiB',
    [...running.values()].map(({ process }) => (usage(process.pid).peak / 2 ** 20).toFixed(0)),
  )
} finally {
  rmSync(directory, { recursive: true })
}

function print(first: string, cells: readonly string[]): void {
  process.stdout.write(`${first.padEnd(31)}${cells.map((cell) => cell.padStart(22)).join('')}\n`)
}

/** The value with the least disturbance by other work of the machine. */
function best(values: number[]): number {
  return Math.max(...values)
}
