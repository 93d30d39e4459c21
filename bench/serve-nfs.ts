/**
 * How fast the NFS server answers, beside nfs-ganesha on the same tree in the same run.
 *
 *     node bench/serve-nfs.ts [rounds]
 *
 * Takes root, a C compiler, and the Debian packages libnfs-dev, nfs-ganesha-vfs and rpcbind.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { ganeshaConfiguration } from '../test/e2e/support/configuration.ts'
import { startGanesha } from '../test/e2e/support/daemons.ts'
import { openNetwork } from '../test/e2e/support/network.ts'

const rounds = Number(process.argv[2] ?? 7)
const units: Record<string, string> = {
  'read-64k': 'MB/s',
  'read-64k-16': 'MB/s',
  'read-1m': 'MB/s',
  getattr: 'calls/s',
  stat: 'paths/s',
  'stat-16': 'paths/s',
  readdirplus: 'entries/s',
}

const directory = mkdtempSync('/dev/shm/netimage-bench-nfs-')
try {
  const client = join(directory, 'client')
  const source = join(import.meta.dirname, 'nfs-client.c')
  const flags = ['-O2', '-D_FILE_OFFSET_BITS=64', '-o', client, source, '-lnfs']
  execFileSync('cc', flags, { stdio: 'inherit' })
  const tree = join(directory, 'tree')
  mkdirSync(join(tree, 'directory'), { recursive: true })
  writeFileSync(join(tree, 'file'), randomBytes(64 * 2 ** 20))
  for (let index = 0; index < 2000; index++)
    writeFileSync(join(tree, 'directory', `file${index}`), '')

  await using network = await openNetwork('bench-nfs')
  await startGanesha(network, ganeshaConfiguration({ '/tree': tree }))
  const server = join(import.meta.dirname, 'serve-nfs-program.ts')
  const layer = join(directory, 'layer')
  mkdirSync(layer)
  const ours = network.start('ours', [
    process.execPath,
    server,
    network.server,
    '22049',
    tree,
    layer,
  ])
  await ours.waitFor(/^ready$/, 60)

  const ports = 'nfsport=22049&mountport=22049'
  const urls = {
    ganesha: 'nfs://127.0.0.1/tree',
    netimage: `nfs://${network.server}/tree?${ports}`,
  }
  const samples = new Map<string, number[]>()
  for (let round = 0; round < rounds; round++) {
    for (const [name, url] of Object.entries(urls)) {
      const output = await network.run([client, url, '/file', '/directory'])
      for (const line of output.trim().split('\n')) {
        const [measurement = '', value] = line.split(' ')
        const key = `${name} ${measurement}`
        samples.set(key, [...(samples.get(key) ?? []), Number(value)])
      }
    }
  }
  process.stdout.write(
    `${''.padEnd(14)}${'ganesha'.padStart(12)}${'netimage'.padStart(12)}  ratio\n`,
  )
  for (const [measurement, unit] of Object.entries(units)) {
    const [theirs, own] = Object.keys(urls).map((name) =>
      median(samples.get(`${name} ${measurement}`)),
    )
    const values = [theirs, own].map((value = 0) => Math.round(value).toString().padStart(12))
    const ratio = ((own ?? 0) / (theirs ?? 1)).toFixed(2)
    process.stdout.write(`${measurement.padEnd(14)}${values.join('')}  ${ratio}  ${unit}\n`)
  }
} finally {
  rmSync(directory, { recursive: true })
}

function median(values: number[] = []): number {
  const sorted = values.toSorted((one, other) => one - other)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}
