/**
 * A closure of the size of a small system: about 150 store paths, 10,000 files and 300 MB, from
 * Debian's packages and made by real Nix, in a local store and in signed binary caches.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import {
  addBuilderShell,
  createNixWorld,
  findStaticBusybox,
  runProgram,
} from '../test/support/real-nix.ts'

const seeds =
  'git python3 vim-runtime nginx-light curl rsync openssh-server tmux bind9-dnsutils python3-docutils'

export const benchCompressions = ['none', 'zstd', 'xz'] as const

export interface BenchClosure {
  root: string
  publicKey: string
  caches: Record<(typeof benchCompressions)[number], string>
}

/**
 * @param downloads where Debian's packages are kept from run to run
 * @param directory a tmpfs with 2 GB of room
 */
export async function makeBenchClosure(
  downloads: string,
  directory: string,
): Promise<BenchClosure> {
  const packages = await unpackPackages(downloads)
  const world = await createNixWorld(join(directory, 'world'))
  const paths: string[] = []
  for (const [name, tree] of packages) {
    paths.push(await world.addToStore(tree, { name: name.replace(/[^0-9A-Za-z+._?=-]/g, '_') }))
  }
  const shell = await addBuilderShell(world, await findStaticBusybox())
  const [root = ''] = await world.build({ expression: rootExpression(shell, paths) })
  const key = await world.generateKey('bench-1')
  const caches = {
    none: join(directory, 'cache-none'),
    zstd: join(directory, 'cache-zstd'),
    xz: join(directory, 'cache-xz'),
  }
  for (const compression of benchCompressions) {
    const { secretKeyFile } = key
    await world.copyToCache([root], caches[compression], { compression, secretKeyFile })
  }
  return { root, publicKey: key.publicKey, caches }
}

/** A NixOS-shaped system that refers to all of `paths`. */
function rootExpression(shell: string, paths: string[]): string {
  const script = [
    'mkdir $out',
    'cd $out',
    'printf bench > nixos-version',
    'printf x86_64-linux > system',
    'printf quiet > kernel-params',
    'touch init kernel',
    'printf "%s\\n" $paths > extra-dependencies',
  ].join('; ')
  return `
    derivation {
      name = "nixos-system-bench";
      system = builtins.currentSystem;
      builder = "\${builtins.storePath ${shell}}/bin/sh";
      args = [ "-euc" ''${script.replaceAll('$', "''$")}'' ];
      PATH = "\${builtins.storePath ${shell}}/bin";
      paths = map builtins.storePath [ ${paths.join(' ')} ];
    }`
}

/** Downloads and unpacks (never installs) the seeds with all that they depend on. */
async function unpackPackages(downloads: string): Promise<[name: string, tree: string][]> {
  const done = join(downloads, 'done')
  const trees = join(downloads, 'trees')
  if (!existsSync(done)) {
    const debs = join(downloads, 'debs')
    await mkdir(debs, { recursive: true })
    await mkdir(trees, { recursive: true })
    const only = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances']
    const flags = only.map((kind) => `--no-${kind}`).join(' ')
    const script = `
      names=$(apt-cache depends --recurse ${flags} ${seeds} | grep '^[a-z0-9]' | grep -v : | sort -u)
      for name in $names; do apt-get download -q "$name" || echo "$name is virtual"; done
      for deb in *.deb; do dpkg -x "$deb" "${trees}/\${deb%%_*}"; done`
    await runProgram('sh', ['-euc', `cd "${debs}"\n${script}`])
    await writeFile(done, '')
  }
  const names = (await readdir(trees)).sort()
  return names.map((name) => [name, join(trees, name)])
}
