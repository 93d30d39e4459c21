/**
 * Measures how fast the TFTP server sends to one client, and to 100 clients at once, compared with
 * dnsmasq, tftpd-hpa and atftpd in one run.
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

import { measured } from './report.ts'
import { compareCommands } from './side-by-side.ts'

const rounds = Number(process.argv[2] ?? 5)
const program = join(import.meta.dirname, 'serve-tftp-program.ts')

/** One client fetches `large`; each of many clients fetches `small`. */
const files = { large: 32 << 20, small: 512 << 10 }

interface Row {
  unit: string
  /** MiB that all clients fetch together. */
  amount: number
  command: (address: string) => string[]
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
    unit: 'MiB',
    amount: files.large / 2 ** 20,
    command: (address) => [
      ...['curl', '--silent', '--show-error', '--tftp-blksize', `${blockSize}`],
      ...['--output', '/dev/null', `tftp://${address}/large`],
    ],
  }
}

function atftp(blockSize: number, windowSize: number): Row {
  return {
    unit: 'MiB',
    amount: files.large / 2 ** 20,
    command: (address) => [
      ...['atftp', '--option', `blksize ${blockSize}`, '--option', `windowsize ${windowSize}`],
      ...['-g', '-r', 'large', '-l', '/dev/null', address],
    ],
  }
}

function many(clients: number, blockSize: number, windowSize: number): Row {
  const numbers = [files.small, blockSize, windowSize, clients]
  return {
    unit: 'MiB',
    amount: (clients * files.small) / 2 ** 20,
    command: (address) => [manyClients, address, 'small', ...numbers.map(String)],
  }
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
  const node = [process.execPath, program]
  await measured(() =>
    compareCommands({
      ...{ name: 'bench-tftp', rounds, rows },
      // The limits of 50 and 100 clients are the defaults of dnsmasq and atftpd.
      others: {
        dnsmasq: (address) => [
          ...['dnsmasq', '--no-daemon', '--conf-file=/dev/null', '--port=0', '--enable-tftp'],
          ...['--user=root', '--bind-interfaces', `--listen-address=${address}`],
          ...[`--tftp-root=${tree}`, '--tftp-max=200', '--log-facility=/dev/null'],
        ],
        'tftpd-hpa': (address) => [
          ...['in.tftpd', '-L', '-a', `${address}:69`, '-s', tree, '-u', 'root'],
        ],
        atftpd: (address) => [
          ...[join(directory, 'usr/sbin/atftpd'), '--daemon', '--no-fork', '--maxthread', '200'],
          ...['--bind-address', address, '--logfile', '/dev/null', '--user', 'root.root', tree],
        ],
      },
      own: {
        netimage: (address) => [...node, address, tree],
        'one port': (address) => [...node, address, tree, 'single'],
      },
    }),
  )
} finally {
  rmSync(directory, { recursive: true })
}
