// The files that boot tests keep between runs: downloads, the private Nix store, and the logs of
// the last run. So a second run needs no network.

import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'

const repository = join(import.meta.dirname, '..', '..', '..')

/** A directory below $NETIMAGE_TEST_CACHE; default: below .netimage-test in the repository. */
export function cacheDirectory(name: string): string {
  const top = process.env['NETIMAGE_TEST_CACHE'] ?? join(repository, '.netimage-test')
  const directory = resolve(top, name)
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  return directory
}
