/**
 * Looks into the write-ahead log of a database. Each frame of the log has the salts of its header. When the log
 * begins anew, the header gets other salts, and frames from before stay until they are overwritten.
 *
 * https://sqlite.org/fileformat2.html#walformat
 */
import { readSync, statSync } from 'node:fs'

import { NetimageError } from '../errors.ts'

const header = { bytes: 32, pageSizeAt: 8, saltsAt: 16 }
const frame = { bytes: 24, saltsAt: 8 }
const saltBytes = 8

interface LogHeader {
  pageBytes: number
  salts: Buffer
}

/** @returns undefined if the log is empty */
export function readLogHeader(log: number): LogHeader | undefined {
  const start = Buffer.alloc(header.bytes)
  if (readSync(log, start, 0, header.bytes, 0) < header.bytes) return undefined
  return {
    pageBytes: start.readUInt32BE(header.pageSizeAt),
    salts: start.subarray(header.saltsAt, header.saltsAt + saltBytes),
  }
}

/** @param number of a frame, from 1 @returns whether the log has this frame since it began anew */
export function hasFrame(log: number, number: number): boolean {
  const start = readLogHeader(log)
  if (!start) return false
  const salts = Buffer.alloc(saltBytes)
  const at = header.bytes + (number - 1) * (frame.bytes + start.pageBytes) + frame.saltsAt
  const isThere = readSync(log, salts, 0, saltBytes, at) === saltBytes
  return isThere && salts.equals(start.salts)
}

/**
 * To be called when the database was closed. SQLite does not tell if it cannot move the log into the database.
 *
 * @throws `NetimageError` `disk-full` if there is a log
 */
export function mustHaveNoLog(database: string): void {
  const log = statSync(`${database}-wal`, { throwIfNoEntry: false })
  if (log === undefined || log.size === 0) return
  throw new NetimageError(
    'disk-full',
    `could not move the log of ${database} into the database: the disk is full`,
    {
      details: { file: database },
      hint: 'Make room on that disk, and try again. Nothing is lost.',
    },
  )
}
