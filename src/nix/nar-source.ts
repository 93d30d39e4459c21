/**
 * Where a NAR's bytes are on this machine: what a store hands over once nothing but reading,
 * decompressing and verifying is left to do. Plain data, so that it can be sent to a worker.
 */
import { closeSync, openSync, readSync, rmSync } from 'node:fs'

import { fileSystemError } from '../errors.ts'
import type { Compression } from './compression.ts'
import type { Hash } from './hash.ts'

export type NarSource = NarFile | NarTree

/** A compressed NAR in a file. */
export interface NarFile {
  kind: 'file'
  file: string
  compression: Compression
  /** SHA-256 of the file, where the store names it. */
  fileHash?: Hash
  /** Bytes of the file, where the store names them. */
  fileSize?: number
  /** Whether the file was fetched for this and is to be removed after use. */
  temporary: boolean
}

/** A store path as it lies in a local store. */
export interface NarTree {
  kind: 'tree'
  directory: string
}

const readBytes = 256 * 1024

/** The bytes of a file. A chunk is overwritten by the next, unless `reuse` is false. */
export function* readChunks(file: string, reuse: boolean): Generator<Buffer> {
  let fd: number
  try {
    fd = openSync(file, 'r')
  } catch (error) {
    throw fileSystemError(`could not read ${file}`, error)
  }
  try {
    let buffer = Buffer.allocUnsafeSlow(readBytes)
    for (;;) {
      const count = readSync(fd, buffer, 0, readBytes, null)
      if (count === 0) return
      yield buffer.subarray(0, count)
      if (!reuse) buffer = Buffer.allocUnsafeSlow(readBytes)
    }
  } catch (error) {
    throw fileSystemError(`could not read ${file}`, error)
  } finally {
    closeSync(fd)
  }
}

export function discard(source: NarSource): void {
  if (source.kind === 'file' && source.temporary) rmSync(source.file, { force: true })
}
