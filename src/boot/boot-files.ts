/** What a way of booting makes: files of the boot tree, as data. */
import { basename } from 'node:path'

import { splitStorePath } from '../nix/store-path.ts'
import type { StoreFile } from '../nixos/store-files.ts'

export interface BootFile {
  /** Relative to the boot tree. */
  path: string
  content: BootContent
}

export type BootContent =
  | { kind: 'text'; text: string }
  /**
   * A file or directory to copy, by where it lies on this machine. With its path in the store, links
   * in it lead to files of the closure, and nowhere else; without, to where this machine has them.
   */
  | { kind: 'copy'; from: string; storePath?: string }
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

/** A file or directory of the closure, copied to `path`. */
export function storeCopy(path: string, { real, path: storePath }: StoreFile): BootFile {
  return { path, content: { kind: 'copy', from: real, storePath } }
}

export function textFile(path: string, lines: string[]): BootFile {
  return { path, content: { kind: 'text', text: lines.join('\n') + '\n' } }
}

/** The folder in which all ways share the copies of kernels, initrds and device trees. */
const sharedFolder = 'nixos'

/**
 * U-Boot cuts a name that it asks TFTP for at 127 bytes (MAX_LEN in its net/tftp.c), and names of
 * kernels that were built for another platform get there. What is left is for the folder that the
 * tree is served from, and for the names of device trees.
 */
const maxNameBytes = { file: 110, directory: 72 }

/**
 * Where a file of the store lies in the boot tree: `nixos/<hash>-<name>-<file>`, as nixpkgs's
 * extlinux builder names it; without the name where that is too long for U-Boot.
 */
export function sharedPath(storeFile: string, kind: keyof typeof maxNameBytes = 'file'): string {
  const split = splitStorePath(storeFile)
  if (!split) return `${sharedFolder}/${basename(storeFile)}`
  const name = storeFile.slice('/nix/store/'.length)
  const whole = `${sharedFolder}/${name.replaceAll('/', '-')}`
  if (Buffer.byteLength(whole) <= maxNameBytes[kind]) return whole
  const [hash = ''] = name.split('-')
  return `${sharedFolder}/${hash}${name.includes('/') ? `-${basename(name)}` : ''}`
}
