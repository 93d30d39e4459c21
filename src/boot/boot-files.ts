/** What a way of booting makes: files of the boot tree, as data. */
import { basename } from 'node:path'

import { splitStorePath } from '../nix/store-path.ts'

export interface BootFile {
  /** Relative to the boot tree. */
  path: string
  content: BootContent
}

export type BootContent =
  | { kind: 'text'; text: string }
  /** A file or directory to copy, by where it lies on this machine. */
  | { kind: 'copy'; from: string }
  /** Parts that follow each other: large ones are read when the file is written. */
  | { kind: 'parts'; parts: Part[]; finish?: (file: string) => Promise<void> }

export type Part = Buffer | FilePart

export interface FilePart {
  from: string
  size: number
}

export function partBytes(part: Part): number {
  return Buffer.isBuffer(part) ? part.length : part.size
}

export function textFile(path: string, lines: string[]): BootFile {
  return { path, content: { kind: 'text', text: lines.join('\n') + '\n' } }
}

/** The folder in which all ways share the copies of kernels, initrds and device trees. */
const sharedFolder = 'nixos'

/**
 * Where a file of the store lies in the boot tree: `nixos/<hash>-<name>-<file>`, as nixpkgs's
 * extlinux builder names it.
 */
export function sharedPath(storeFile: string): string {
  const split = splitStorePath(storeFile)
  if (!split) return `${sharedFolder}/${basename(storeFile)}`
  const name = storeFile.slice('/nix/store/'.length)
  return `${sharedFolder}/${name.replaceAll('/', '-')}`
}
