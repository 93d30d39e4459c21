// Gives a parser more input than the memory of this process. The parser must not keep the input.
// See test/support/limited-memory.ts.
//
//     node unbounded-program.ts nar-file|nar-names|zstd-skippable

import { createByteReader } from '../../../src/nix/byte-reader.ts'
import { zstdFrames } from '../../../src/nix/zstd-frames.ts'
import { emptyFile, feedNar, narEntry, narLength, narStrings } from '../../support/nar.ts'

const magic = 'nix-archive-1'
const gigabytes = 2
const mebibyte = 1 << 20

function* newMebibytes(): Generator<Buffer> {
  for (let count = 0; count < gigabytes * 1024; count++) yield Buffer.alloc(mebibyte)
}

/** @returns the number of file bytes that the parser passed to the visitor */
function parse(pieces: Iterable<Buffer>): number {
  let bytes = 0
  const ignore = () => undefined
  feedNar(pieces, {
    ...{ directory: ignore, directoryEnd: ignore, symlink: ignore, file: ignore, fileEnd: ignore },
    data: (chunk) => void (bytes += chunk.length),
  })
  return bytes
}

/** A file of the claimed size. The size is a multiple of eight, so it needs no padding. */
function* narOfOneFile(): Generator<Buffer> {
  yield narStrings(magic, '(', 'type', 'regular', 'contents')
  yield narLength(BigInt(gigabytes) << 30n)
  yield* newMebibytes()
  yield narStrings(')')
}

/** The buffer of a name takes about a hundred bytes in addition to the 255 of the name. */
function* narOfManyNames(): Generator<Buffer> {
  yield narStrings(magic, '(', 'type', 'directory')
  const template = narStrings(...narEntry('0'.repeat(255), ...emptyFile))
  const at = template.indexOf('0'.repeat(255))
  for (let number = 0; number < 400_000; number++) {
    template.write(String(number).padStart(255, '0'), at, 'latin1')
    yield template
  }
  yield narStrings(')')
}

function* largeSkippable(): Generator<Buffer> {
  const header = Buffer.alloc(8)
  header.writeUInt32LE(0x184d2a50)
  header.writeUInt32LE(gigabytes * 2 ** 30, 4)
  yield header
  yield* newMebibytes()
}

async function skipped(): Promise<number> {
  const reader = createByteReader(largeSkippable(), { left: Infinity }, (why) => new Error(why))
  let frames = 0
  for await (const frame of zstdFrames(reader, () => undefined)) {
    await frame.return(undefined)
    frames++
  }
  return frames
}

const works: Record<string, () => number | Promise<number>> = {
  'nar-file': () => parse(narOfOneFile()),
  'nar-names': () => parse(narOfManyNames()),
  'zstd-skippable': skipped,
}
console.log(await works[process.argv[2] ?? '']?.())
