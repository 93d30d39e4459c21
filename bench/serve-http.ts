/**
 * Measures how fast the HTTP server sends boot files, compared with nginx in one run.
 *
 *     node bench/serve-http.ts [rounds]
 *
 * Needs root, and the Debian packages apache2-utils and nginx-light.
 */
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'

import { openNetwork } from '../test/e2e/support/network.ts'
import type { Program } from '../test/e2e/support/program.ts'
import { median } from './measure.ts'
import { usage } from './usage.ts'

const rounds = Number(process.argv[2] ?? 5)
const program = join(import.meta.dirname, 'serve-http-program.ts')

/** Each request is a connection of its own, as those of loaders are. */
interface Work {
  file: 'large' | 'small'
  clients: number
  requests: number
}

const works: Record<string, Work> = {
  '16 MiB, one client': { file: 'large', clients: 1, requests: 32 },
  '16 MiB, 100 clients': { file: 'large', clients: 100, requests: 100 },
  '1 KiB, one client': { file: 'small', clients: 1, requests: 3000 },
  '1 KiB, 100 clients': { file: 'small', clients: 100, requests: 10_000 },
}
const bytes = { large: 16 * 2 ** 20, small: 1024 }

/** Each address may have a few connections only, so the clients have ten addresses. */
function clientsOf({ file, clients, requests }: Work, server: string): string {
  const addresses = Math.min(10, clients)
  const each = `-q -n ${requests / addresses} -c ${clients / addresses} -s 300`
  const all = Array.from(
    { length: addresses },
    (_, index) => `ab ${each} -B 127.0.1.${index + 1} http://${server}/${file} & all="$all $!"`,
  )
  return `all=; ${all.join('; ')}; for one in $all; do wait $one; done`
}

const directory = mkdtempSync('/dev/shm/netimage-bench-http-')
try {
  const tree = join(directory, 'tree')
  mkdirSync(tree)
  for (const file of ['large', 'small'] as const) {
    writeFileSync(join(tree, file), randomBytes(bytes[file]))
  }
  process.stdout.write(`${availableParallelism()} processors\n`)
  await compare(
    'servers on one processor, clients on another',
    ['taskset', '-c', '0'],
    ['taskset', '-c', '1'],
  )
  await compare('all on all processors', [], [])
} finally {
  rmSync(directory, { recursive: true })
}

async function compare(title: string, onServers: string[], onClients: string[]): Promise<void> {
  const tree = join(directory, 'tree')
  await using network = await openNetwork('bench-http')
  const servers: Record<string, (address: string) => string[]> = {
    nginx: (address) => ['nginx', '-c', nginxConfiguration(address, tree)],
    netimage: (address) => [process.execPath, program, address, tree],
  }
  const running = new Map<string, { address: string; process: Program }>()
  for (const [index, [name, command]] of Object.entries(servers).entries()) {
    const address = `127.0.0.${index + 1}`
    const started = network.start(name, [...onServers, ...command(address)])
    running.set(name, { address, process: started })
  }
  await new Promise((resolve) => setTimeout(resolve, 2000))

  const samples = new Map<string, { rates: number[]; seconds: number[] }>()
  for (let round = 0; round < rounds; round++) {
    for (const [name, work] of Object.entries(works)) {
      for (const [server, { address, process }] of running) {
        const before = usage(process.pid).seconds
        const script = `a=$(date +%s%N); ${clientsOf(work, address)} >&2; echo $(($(date +%s%N) - a))`
        const output = await network.run([...onClients, 'sh', '-ec', script])
        const key = `${server} ${name}`
        const sample = samples.get(key) ?? { rates: [], seconds: [] }
        sample.rates.push(work.requests / (Number(output.trim().split('\n').at(-1)) / 1e9))
        sample.seconds.push((usage(process.pid).seconds - before) / work.requests)
        samples.set(key, sample)
      }
    }
  }

  print(`${title}: requests/s`, [...running.keys(), 'ratio', 'ms of processor time', ''])
  for (const name of Object.keys(works)) {
    const of = (server: string) => samples.get(`${server} ${name}`) ?? { rates: [], seconds: [] }
    const [nginx = Number.NaN, own = Number.NaN] = [...running.keys()].map((server) =>
      median(of(server).rates),
    )
    const times = [...running.keys()].map((server) =>
      (median(of(server).seconds) * 1000).toFixed(3),
    )
    print(name, [nginx.toFixed(1), own.toFixed(1), (own / nginx).toFixed(2), ...times])
  }
  print(
    'peak memory, MiB',
    [...running.values()].map(({ process }) => (usage(process.pid).peak / 2 ** 20).toFixed(0)),
  )
}

function nginxConfiguration(address: string, tree: string): string {
  const file = join(directory, 'nginx.conf')
  const lines = [
    'daemon off; user root; worker_processes auto; error_log stderr;',
    `pid ${join(directory, 'nginx.pid')};`,
    'events { worker_connections 1024; }',
    'http { access_log off; sendfile on; tcp_nopush on;',
    ...['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (kind) => `${kind}_temp_path ${join(directory, kind)};`,
    ),
    `server { listen ${address}:80 backlog=1024; root ${tree}; } }`,
  ]
  writeFileSync(file, lines.join('\n'))
  return file
}

function print(first: string, cells: readonly string[]): void {
  process.stdout.write(`${first.padEnd(62)}${cells.map((cell) => cell.padStart(21)).join('')}\n`)
}
