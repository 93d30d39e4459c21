/**
 * The place of a NAR's bytes on this machine. A store returns it after fetching the NAR; the NAR
 * still has to be read, decompressed and verified. It is plain data that can be sent to a worker.
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
  /** SHA-256 of the file, if the store names it. */
  fileHash?: Hash
  /** The size of the file in bytes, if the store names it. */
  fileSize?: number
  /** Whether the file was downloaded and must be removed after use. */
  temporary: boolean
}

/** An unpacked store path in a local store. */
export interface NarTree {
  kind: 'tree'
  directory: string
}

const readBytes = 256 * 1024

/** @param reuse whether each chunk may overwrite the chunk before it */
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
