/** Archives that are the same byte for byte, whoever makes them, when and where. */
import { execFileSync } from 'node:child_process'

/** Not by Node's zlib, which makes other bytes on other processors. */
export function gzip(input: Uint8Array): Buffer {
  return execFileSync('gzip', ['--no-name', '--stdout', '-9'], { input })
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

/** Gives all files of a tree modes that no umask has changed. Their times are set in the archives. */
export function levelModes(tree: string): void {
  execFileSync('chmod', ['--recursive', 'u=rwX,go=rX,a-st', tree])
}
