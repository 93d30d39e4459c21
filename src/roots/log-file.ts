/**
 * Looks into the write-ahead log of a database. Each frame of the log has the salts of its header. When the log
 * begins anew, the header gets other salts, and frames from before stay until they are overwritten.
 *
 * https://sqlite.org/fileformat2.html#walformat
 */
import { readSync } from 'node:fs'

const header = { bytes: 32, pageSizeAt: 8, saltsAt: 16 }
const frame = { bytes: 24, saltsAt: 8 }
const saltBytes = 8

/** @param number of a frame, from 1 @returns whether the log has this frame since it began anew */
export function hasFrame(log: number, number: number): boolean {
  const start = Buffer.alloc(header.bytes)
  if (readSync(log, start, 0, header.bytes, 0) < header.bytes) return false
  const pageBytes = start.readUInt32BE(header.pageSizeAt)
  const salts = Buffer.alloc(saltBytes)
  const at = header.bytes + (number - 1) * (frame.bytes + pageBytes) + frame.saltsAt
  const isThere = readSync(log, salts, 0, saltBytes, at) === saltBytes
  return isThere && salts.equals(start.subarray(header.saltsAt, header.saltsAt + saltBytes))
}
