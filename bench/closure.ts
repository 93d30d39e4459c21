/**
 * A closure of the size of a small system: about 150 store paths, 10,000 files and 300 MB, from
 * Debian's packages and made by real Nix, in a local store and in signed binary caches.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'

import { removeTree } from '../src/remove-tree.ts'

import {
  addBuilderShell,
  createNixWorld,
  findStaticBusybox,
  runProgram,
} from '../test/support/real-nix.ts'

const seeds =
  'git python3 vim-runtime nginx-light curl rsync openssh-server tmux bind9-dnsutils python3-docutils'

export const benchCompressions = ['none', 'zstd', 'xz'] as const

const closureSchema = v.object({
  root: v.string(),
  publicKey: v.string(),
  /**
   * A directory with one binary cache for each compression; the cache has the compression's name.
   */
  caches: v.string(),
})

export type BenchClosure = v.InferOutput<typeof closureSchema>

/** @param directory everything is kept here for the next run: making the caches takes minutes */
export async function makeBenchClosure(directory: string): Promise<BenchClosure> {
  const finished = join(directory, 'closure.json')
  if (!existsSync(finished)) {
    const made = await make(directory)
    await writeFile(finished, JSON.stringify(made))
  }
  return v.parse(closureSchema, JSON.parse(await readFile(finished, 'utf8')))
}

async function make(directory: string): Promise<BenchClosure> {
  const packages = await unpackPackages(join(directory, 'packages'))
  const made = join(directory, 'made')
  removeTree(made)
  const world = await createNixWorld(join(made, 'world'))
  const paths: string[] = []
  for (const [name, tree] of packages) {
    paths.push(await world.addToStore(tree, { name: name.replace(/[^0-9A-Za-z+._?=-]/g, '_') }))
  }
  const shell = await addBuilderShell(world, await findStaticBusybox())
  const [root = ''] = await world.build({ expression: rootExpression(shell, paths) })
  const { secretKeyFile, publicKey } = await world.generateKey('bench-1')
  for (const compression of benchCompressions) {
    await world.copyToCache([root], join(made, compression), { compression, secretKeyFile })
  }
  return { root, publicKey, caches: made }
}

/** A system in the shape of NixOS that refers to all of `paths`. */
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

/** Downloads and unpacks (never installs) the seeds and all their dependencies. */
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
