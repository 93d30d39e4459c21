/** Archives that are the same byte for byte, whoever makes them, when and where. */
import { execFileSync } from 'node:child_process'
import { chmodSync, closeSync, lutimesSync, lstatSync, openSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/** How hard a compressor tries. Tests need no small files. */
export type Effort = 'small' | 'quick'

const gzipLevel: Record<Effort, string> = { small: '-9', quick: '-1' }

/** Not by Node's zlib, which makes other bytes on other processors. */
export function gzip(input: Uint8Array): Buffer {
  return execFileSync('gzip', ['--no-name', '--stdout', gzipLevel.small], { input })
}

export function gzipFile(from: string, to: string, effort: Effort): void {
  const [input, output] = [openSync(from, 'r'), openSync(to, 'w', 0o644)]
  const args = ['--no-name', '--stdout', gzipLevel[effort]]
  execFileSync('gzip', args, { stdio: [input, output, 'inherit'] })
  closeSync(input)
  closeSync(output)
}

/**
 * @param names what to take of the directory
 * @param epoch seconds: the time of each file
 * @param how more arguments for `tar`
 */
export function tar(
  directory: string,
  names: readonly string[],
  to: string,
  epoch: number,
  how: readonly string[] = [],
): void {
  const same = ['--format=ustar', '--sort=name', `--mtime=@${epoch}`]
  const owner = ['--owner=0', '--group=0', '--numeric-owner']
  const place = [`--file=${to}`, `--directory=${directory}`]
  execFileSync('tar', ['--create', ...same, ...owner, ...how, ...place, '--', ...names])
}

/** Gives all files of a tree the time of the release, and modes that no umask has changed. */
export function levelTree(tree: string, epoch: number): void {
  const all = readdirSync(tree, { recursive: true, encoding: 'utf8' })
  for (const path of [...all.map((name) => join(tree, name)), tree]) {
    const stat = lstatSync(path)
    if (!stat.isSymbolicLink()) {
      chmodSync(path, stat.isDirectory() || stat.mode & 0o100 ? 0o755 : 0o644)
    }
    lutimesSync(path, epoch, epoch)
  }
}
