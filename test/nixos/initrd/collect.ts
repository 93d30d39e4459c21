// Reads an initrd into values that tests can compare.

import { readInitrd } from '../../../src/nixos/initrd/entries.ts'
import type { InitrdEntry } from '../../../src/nixos/initrd/cpio.ts'
import { inPieces } from '../../support/chunks.ts'

export type ReadOptions = { sizes?: readonly number[]; maxBytes?: number }

export async function readAll(
  initrd: Buffer | AsyncIterable<Buffer> | Iterable<Buffer>,
  { sizes = [1 << 20], maxBytes = 1 << 30 }: ReadOptions = {},
): Promise<InitrdEntry[]> {
  const input = Buffer.isBuffer(initrd) ? inPieces(initrd, sizes) : initrd
  const entries: InitrdEntry[] = []
  for await (const entry of readInitrd(input, () => true, maxBytes)) entries.push(entry)
  return entries
}

/** A line for each entry, in the order of the archive. */
export function describeEntries(entries: readonly InitrdEntry[]): string[] {
  return entries.map(({ name, type, mode, size, target, content }) =>
    [
      name.toString('latin1'),
      type,
      mode.toString(8),
      size,
      target?.toString('latin1') ?? '',
      content?.toString('latin1') ?? '',
    ].join(' '),
  )
}
