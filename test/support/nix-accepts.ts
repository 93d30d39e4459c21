// Checks that real Nix accepts the root of an image as its own store, as on a booted machine.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { runProgram } from './real-nix.ts'

export type AcceptedStore = {
  /** The paths that Nix then knows, sorted. */
  paths: string[]
  nixStore: (args: string[]) => Promise<string>
}

/**
 * Loads the registration of a root tree, and lets Nix hash every store path in it. Nix writes its
 * database into the tree, so give it a copy of the tree.
 */
export async function nixAccepts(root: string, home: string): Promise<AcceptedStore> {
  mkdirSync(home, { recursive: true })
  const environment = {
    PATH: process.env['PATH'],
    HOME: home,
    NIX_CONF_DIR: home,
    NIX_USER_CONF_FILES: '',
    NIX_CONFIG: `store = ${root}\nbuild-users-group =\nsubstituters =\nfsync-metadata = false\n`,
  }
  const run = (program: string, args: string[]) => runProgram(program, args, { environment })
  const nixStore = (args: string[]) => run('nix-store', args)
  const registration = join(root, 'nix-path-registration')
  await run('sh', ['-c', 'exec nix-store --load-db < "$1"', 'sh', registration])
  await nixStore(['--verify', '--check-contents'])
  // `--all` of nix path-info, which also shows paths that nothing refers to.
  const all = await run('nix', [
    'path-info',
    '--all',
    '--extra-experimental-features',
    'nix-command',
  ])
  return { paths: all.split('\n').filter(Boolean).toSorted(), nixStore }
}
