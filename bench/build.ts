/**
 * Measures how fast images are built, compared with `nix copy` of two versions and `cp -a` in the same run.
 *
 *     node bench/build.ts [rounds] [directory to keep the closure in] [file system…]
 *
 * A file system is `tmpfs` (the default) or `ext4`, `xfs` or `btrfs`. Those are on a loop device, whose file is
 * in /dev/shm, so that no disk is measured; they need root, and the Debian packages xfsprogs and btrfs-progs.
 */
import { execFileSync } from 'node:child_process'
import { cp, mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

import * as v from 'valibot'

import { removeTree } from '../src/remove-tree.ts'
import { benchCompressions, makeBenchClosure } from './closure.ts'
import { kinds, onFileSystem } from './file-system.ts'
import { measure, type Contender } from './measure.ts'
import { beginTable, measured, mebibytes } from './report.ts'

const [rounds = '5', kept = '.netimage-bench', ...named] = process.argv.slice(2)
const fileSystems = v.parse(v.array(v.picklist(kinds)), named.length > 0 ? named : ['tmpfs'])
const program = fileURLToPath(new URL('../dist/cli.js', import.meta.url))
const work = '/dev/shm/netimage-bench'

const { publicKey, root, caches } = await makeBenchClosure(resolve(kept))
const nixes = { 'nix copy': ['nix'], 'newer nix copy': newerNix() }
const pool = join(work, 'pool')
const image = join(work, 'image')
const copied = join(work, 'copied')

await measured(async () => {
  for (const kind of fileSystems) {
    await onFileSystem(kind, work, async () => {
      for (const compression of kind === 'tmpfs' ? benchCompressions : (['none'] as const)) {
        await cp(join(caches, compression), cacheOf(compression), { recursive: true })
        await compare(`${kind}: from file:// ${compression}, with signatures`, [
          ...Object.entries(nixes).map(([name, command]) => nixCopy(name, command, compression)),
          netimage('netimage build', compression, 'copy', true),
          netimage('netimage build --link hardlink', compression, 'hardlink', true),
        ])
      }
      await filled()
      const second = `${image}-2`
      const warm = (name: string, link: 'hardlink' | 'copy') =>
        netimage(name, 'none', link, false, second)
      await compare(`${kind}: a second image, from a warm pool`, [
        copy('cp -a', []),
        copy('cp -a --reflink=auto', ['--reflink=auto']),
        warm('netimage build', 'copy'),
        warm('netimage build --link hardlink', 'hardlink'),
      ])
    })
  }
})

/** The command of the newest Nix of Debian. */
function newerNix(): string[] {
  const script = join(import.meta.dirname, 'fetch-nix.sh')
  const fetched = execFileSync(script, [join(resolve(kept), 'nix')], { encoding: 'utf8' }).trim()
  const libraries = join(fetched, 'usr/lib/x86_64-linux-gnu')
  const loader = join(libraries, 'ld-linux-x86-64.so.2')
  return [loader, '--library-path', libraries, join(fetched, 'usr/bin/nix')]
}

function cacheOf(compression: (typeof benchCompressions)[number]): string {
  return join(work, `cache-${compression}`)
}

async function compare(title: string, contenders: Contender[]): Promise<void> {
  const results = await measure(contenders, Number(rounds))
  const others = results.filter(({ name }) => !name.startsWith('netimage'))
  const fastest = Math.min(...others.map(({ seconds }) => seconds))
  const printRow = beginTable(title, ['time', 'of the fastest', 'user + system', 'peak memory'])
  for (const { name, seconds, user, system, peakMemory } of results) {
    printRow(name, [
      ...[`${seconds.toFixed(2)} s`, (fastest / seconds).toFixed(2)],
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

function nixCopy(
  name: string,
  nix: readonly string[],
  compression: (typeof benchCompressions)[number],
): Contender {
  const from = `file://${cacheOf(compression)}`
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
    name,
    command: [...nix, 'copy', '--from', from, '--to', `local?root=${target}`, root],
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
