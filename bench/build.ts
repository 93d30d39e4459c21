/**
 * Measures how fast images are built, compared with `nix copy` and `cp -a` in the same run.
 *
 *     node bench/build.ts [rounds] [directory to keep the closure in] [directory to work in]
 *
 * The default directory to work in is on a tmpfs. A directory on another file system measures that.
 */
import { cp, mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

import { removeTree } from '../src/remove-tree.ts'
import { benchCompressions, makeBenchClosure } from './closure.ts'
import { measure, type Contender } from './measure.ts'
import { beginTable, measured, mebibytes } from './report.ts'

const [rounds = '5', kept = '.netimage-bench', directory = '/dev/shm/netimage-bench'] =
  process.argv.slice(2)
const program = fileURLToPath(new URL('../dist/cli.js', import.meta.url))
const work = resolve(directory)

const { publicKey, root, caches } = await makeBenchClosure(resolve(kept))
removeTree(work)
await mkdir(work, { recursive: true })
const pool = join(work, 'pool')
const image = join(work, 'image')
const copied = join(work, 'copied')

await measured(async () => {
  for (const compression of benchCompressions) {
    await cp(join(caches, compression), cacheOf(compression), { recursive: true })
    await compare(`from file:// ${compression}, with signatures`, [
      nixCopy(`file://${cacheOf(compression)}`),
      netimage('netimage build', compression, 'copy', true),
      netimage('netimage build --link hardlink', compression, 'hardlink', true),
    ])
  }
  await filled()
  const second = `${image}-2`
  const warm = (name: string, link: 'hardlink' | 'copy') =>
    netimage(name, 'none', link, false, second)
  await compare('a second image, from a warm pool', [
    copy('cp -a', []),
    copy('cp -a --reflink=auto', ['--reflink=auto']),
    warm('netimage build', 'copy'),
    warm('netimage build --link hardlink', 'hardlink'),
  ])
})
removeTree(work)

function cacheOf(compression: (typeof benchCompressions)[number]): string {
  return join(work, `cache-${compression}`)
}

async function compare(title: string, contenders: Contender[]): Promise<void> {
  const results = await measure(contenders, Number(rounds))
  const peer = results[0]?.seconds ?? Number.NaN
  const printRow = beginTable(title, ['time', 'ratio', 'user + system', 'peak memory'])
  for (const { name, seconds, user, system, peakMemory } of results) {
    printRow(name, [
      ...[`${seconds.toFixed(2)} s`, (seconds / peer).toFixed(2)],
      ...[`${user.toFixed(2)} + ${system.toFixed(2)} s`, mebibytes(peakMemory)],
    ])
  }
}

function copy(name: string, flags: string[]): Contender {
  return {
    name,
    command: ['cp', '-a', ...flags, join(image, 'net-image'), copied],
    prepare: () => removed(copied),
  }
}

function nixCopy(from: string): Contender {
  const target = join(work, 'nix-copy')
  const home = join(work, 'nix-home')
  const settings = [
    'experimental-features = nix-command',
    'build-users-group =',
    'require-sigs = true',
    `trusted-public-keys = ${publicKey}`,
    // The results need not survive a crash, so Nix may skip its syncs.
    'fsync-metadata = false',
  ]
  return {
    name: 'nix copy',
    command: ['nix', 'copy', '--from', from, '--to', `local?root=${target}`, root],
    environment: {
      PATH: process.env['PATH'],
      HOME: home,
      NIX_CONF_DIR: home,
      NIX_CONFIG: settings.join('\n'),
    },
    prepare: async () => {
      await removed(target)
      // Nix caches narinfos, and every round must start without a cache.
      await removed(home)
      await mkdir(home, { recursive: true })
      await mkdir(target)
    },
  }
}

/** A build as a person runs it: with the check, which looks for secrets as well. */
function netimage(
  name: string,
  compression: (typeof benchCompressions)[number],
  link: 'hardlink' | 'copy',
  cold: boolean,
  output = image,
): Contender {
  const from = ['--from', `file://${cacheOf(compression)}`, '--trusted-public-keys', publicKey]
  return {
    name,
    command: [
      process.execPath,
      ...[program, 'build', root, ...from, '--pool', pool, '-o', output, '--link', link],
    ],
    prepare: async () => {
      await removed(output)
      if (cold) await removed(pool)
    },
  }
}

async function filled(): Promise<void> {
  await measure([netimage('fill', 'none', 'copy', true)], 1)
}

function removed(path: string): Promise<void> {
  removeTree(path)
  return Promise.resolve()
}
