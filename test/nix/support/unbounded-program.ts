// Gives a parser input without any end that it could know of, for it to hold none of it. The process
// has less memory than that: see test/support/limited-memory.ts.
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

/** @returns the bytes of files that the parser has handed on */
function parse(pieces: Iterable<Buffer>): number {
  let bytes = 0
  const ignore = () => undefined
  feedNar(pieces, {
    ...{ directory: ignore, directoryEnd: ignore, symlink: ignore, file: ignore, fileEnd: ignore },
    data: (chunk) => void (bytes += chunk.length),
  })
  return bytes
}

/** A file that is as large as it claims to be: the last piece has its padding, which is none. */
function* narOfOneFile(): Generator<Buffer> {
  yield narStrings(magic, '(', 'type', 'regular', 'contents')
  yield narLength(BigInt(gigabytes) << 30n)
  yield* newMebibytes()
  yield narStrings(')')
}

/** What holds a name takes some hundred bytes beside the 255 of the name. */
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
