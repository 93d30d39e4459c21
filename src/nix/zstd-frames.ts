/**
 * The boundaries of zstd frames.
 *
 * Node's decoder stops silently at the end of the first frame, takes a stream that is cut off or
 * followed by anything for complete, and says nothing of the window it will allocate. So frames
 * are told apart here, and the decoder is given one complete frame at a time.
 *
 * https://www.rfc-editor.org/rfc/rfc8878#section-3.1
 */
import { NetimageError } from '../errors.ts'

const frameMagic = 0xfd2fb528
const frameMagicBytes = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])
const skippableMagic = 0x184d2a50
/** What zstd's own decoders accept unless told otherwise: 128 MiB. */
const maxWindowBytes = 2 ** 27

export interface FramePart {
  bytes: Buffer
  /** Whether a frame ends with these bytes. */
  last: boolean
}

type State = 'magic' | 'skippable size' | 'header' | 'block' | 'pass'

/** Cuts a stream into parts that each lie in one frame; skippable frames are left out. */
export function createFrameSplitter(hold: (windowBytes: number) => void = () => undefined) {
  let state: State = 'magic'
  let held = Buffer.alloc(0)
  let passLeft = 0
  let afterPass: 'block' | 'end' = 'block'
  let skipping = false
  let checksumBytes = 0
  let started = false

  function headerLength(descriptor: number): number {
    const singleSegment = (descriptor & 0x20) !== 0
    const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0
    const contentSize = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0
    return 1 + (singleSegment ? 0 : 1) + dictionary + contentSize
  }

  function windowBytes(header: Buffer): number {
    const descriptor = header.readUInt8(0)
    if ((descriptor & 0x20) === 0) {
      const window = header.readUInt8(1)
      const base = 2 ** (10 + (window >> 3))
      return base + (base / 8) * (window & 7)
    }
    // A single segment is its own window.
    const flag = descriptor >> 6
    const at = header.length - (1 << flag)
    if (flag === 0) return header.readUInt8(at)
    if (flag === 1) return header.readUInt16LE(at) + 256
    if (flag === 2) return header.readUInt32LE(at)
    return Number(header.readBigUInt64LE(at))
  }

  /** How many bytes the current state reads at once, given what is held of them. */
  function wanted(): number {
    if (state === 'header') return held.length === 0 ? 1 : headerLength(held.readUInt8(0))
    return state === 'block' ? 3 : 4
  }

  /** Reads the unit that is held, and tells what follows it. */
  function step(): State {
    if (state === 'magic') {
      const magic = held.readUInt32LE(0)
      skipping = (magic & 0xfffffff0) >>> 0 === skippableMagic
      if (!skipping && magic !== frameMagic) {
        throw broken(started ? 'bytes that are no frame follow a frame' : 'it is not zstd')
      }
      started = true
      return skipping ? 'skippable size' : 'header'
    } else if (state === 'skippable size') {
      return pass(held.readUInt32LE(0), 'end')
    } else if (state === 'header') {
      const descriptor = held.readUInt8(0)
      checksumBytes = (descriptor & 4) !== 0 ? 4 : 0
      const window = windowBytes(held)
      if (window > maxWindowBytes) {
        throw broken(`it wants a window of ${window} bytes, and ${maxWindowBytes} are allowed`)
      }
      hold(window)
      return 'block'
    } else {
      const header = held.readUIntLE(0, 3)
      const type = (header >> 1) & 3
      if (type === 3) throw broken('a block of a reserved type')
      const last = (header & 1) !== 0
      const size = type === 1 ? 1 : header >> 3
      return pass(last ? size + checksumBytes : size, last ? 'end' : 'block')
    }
  }

  function pass(count: number, after: 'block' | 'end'): State {
    passLeft = count
    afterPass = after
    return 'pass'
  }

  return {
    *split(chunk: Buffer): Generator<FramePart> {
      // Frames are passed on in the largest parts that the chunk allows.
      let partStart = 0
      let cursor = 0
      for (;;) {
        if (state === 'pass') {
          const count = Math.min(passLeft, chunk.length - cursor)
          cursor += count
          passLeft -= count
          if (passLeft > 0) break
          state = afterPass === 'block' ? 'block' : 'magic'
          if (state === 'magic' && !skipping) {
            yield { bytes: chunk.subarray(partStart, cursor), last: true }
          }
          continue
        }
        const taken = chunk.subarray(cursor, cursor + wanted() - held.length)
        held = Buffer.concat([held, taken])
        cursor += taken.length
        if (held.length < wanted()) {
          if (cursor === chunk.length) break
          continue
        }
        const beginning = state === 'magic'
        state = step()
        held = Buffer.alloc(0)
        // A magic number may come in pieces, and only a whole one tells what it begins.
        if (beginning && !skipping) {
          yield { bytes: frameMagicBytes, last: false }
          partStart = cursor
        }
      }
      const inFrame = state !== 'magic' && !skipping
      if (inFrame && cursor > partStart) {
        yield { bytes: chunk.subarray(partStart, cursor), last: false }
      }
    },
    end(): void {
      const clean = state === 'magic' && held.length === 0 && started
      if (!clean) throw broken(started || held.length > 0 ? 'it is cut off' : 'it is empty')
    },
  }
}

function broken(why: string): NetimageError {
  return new NetimageError('bad-compression', `the zstd stream is broken: ${why}`)
}
