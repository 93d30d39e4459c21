/** The files that a way of booting adds to the boot tree, as data. */
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
   * A file or directory to copy from `from` on this machine. If `storePath` is set, its symlinks
   * may lead only to files of the closure; otherwise they are followed on this machine.
   */
  | { kind: 'copy'; from: string; storePath?: string; finish?: Finish }
  /** Parts in their order. A `FilePart` is read when the file is written, since it may be large. */
  | { kind: 'parts'; parts: Part[]; finish?: Finish }

/** Changes a file after it was written. */
type Finish = (file: string) => Promise<void>

export type Part = Buffer | FilePart

export interface FilePart {
  from: string
  size: number
}

export function partBytes(part: Part): number {
  return Buffer.isBuffer(part) ? part.length : part.size
}

/** Copies a file or directory of the closure to `path`. */
export function storeCopy(path: string, { real, path: storePath }: StoreFile): BootFile {
  return { path, content: { kind: 'copy', from: real, storePath } }
}

export function textFile(path: string, lines: string[]): BootFile {
  return { path, content: { kind: 'text', text: lines.join('\n') + '\n' } }
}

/** The folder in which all ways share the copies of kernels, initrds and device trees. */
const sharedFolder = 'nixos'

/**
 * U-Boot cuts the names of TFTP files at 127 bytes (MAX_LEN in its net/tftp.c). Names of kernels
 * that were cross-compiled can be longer. The remaining bytes are for the folder that serves the
 * tree and for the names of device trees.
 */
const maxNameBytes = { file: 110, directory: 72 }

/**
 * The path of a store file in the boot tree: `nixos/<hash>-<name>-<file>`, as in nixpkgs's extlinux
 * builder, or without the name if the path is too long for U-Boot.
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
