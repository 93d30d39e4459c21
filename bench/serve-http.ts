/**
 * Measures how fast the HTTP server sends boot files, compared with nginx in one run.
 *
 *     node bench/serve-http.ts [rounds]
 *
 * Needs root, and the Debian packages apache2-utils and nginx-light.
 */
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { measured } from './report.ts'
import { compareCommands } from './side-by-side.ts'

const rounds = Number(process.argv[2] ?? 5)
const program = join(import.meta.dirname, 'serve-http-program.ts')

const directory = mkdtempSync('/dev/shm/netimage-bench-http-')
const tree = join(directory, 'tree')
const bytes = { large: 16 * 2 ** 20, small: 1024 }

/**
 * Each request is a connection of its own, as those of loaders are. Each address may have a few connections
 * only, so the clients have ten addresses.
 */
function fetch(file: keyof typeof bytes, clients: number, requests: number) {
  const addresses = Math.min(10, clients)
  const each = `-q -n ${requests / addresses} -c ${clients / addresses} -s 300`
  const command = (server: string) => {
    const all = Array.from(
      { length: addresses },
      (_, index) => `ab ${each} -B 127.0.1.${index + 1} http://${server}/${file} & all="$all $!"`,
    )
    return ['sh', '-ec', `all=; ${all.join('; ')}; for one in $all; do wait $one; done`]
  }
  return { unit: 'requests', amount: requests, command }
}

try {
  mkdirSync(tree)
  for (const file of ['large', 'small'] as const) {
    writeFileSync(join(tree, file), randomBytes(bytes[file]))
  }
  await measured(() =>
    compareCommands({
      ...{ name: 'bench-http', rounds },
      others: { nginx: (address) => ['nginx', '-c', nginxConfiguration(address)] },
      own: { netimage: (address) => [process.execPath, program, address, tree] },
      rows: {
        '16 MiB, one client': fetch('large', 1, 32),
        '16 MiB, 100 clients': fetch('large', 100, 100),
        '1 KiB, one client': fetch('small', 1, 3000),
        '1 KiB, 100 clients': fetch('small', 100, 10_000),
      },
    }),
  )
} finally {
  rmSync(directory, { recursive: true })
}

function nginxConfiguration(address: string): string {
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
