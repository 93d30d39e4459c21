/**
 * Record marking: messages in a stream of bytes [RFC 5531 §11]. A record has one or more fragments.
 * Before each fragment there are four bytes: its length, and a flag for the last fragment.
 */

import { noPool, type Memory, type MemoryPool } from './memory-pool.ts'

/** The flag for the last fragment, in the four bytes of the length. */
export const lastFragment = 0x8000_0000

export const markBytes = 4

/** All calls are smaller, except calls that write data to files. */
export const smallRecordBytes = 8192

const nothing = Buffer.alloc(0)

/** A record that is larger than any valid call, or larger than this client may send. */
export class RecordTooLarge extends Error {
  override readonly name = 'RecordTooLarge'
}

/**
 * Extracts records from the received pieces. It keeps only the received part of one record, and at
 * most `most` bytes.
 */
export class RecordReader {
  readonly #most: number
  readonly #mayBeLarge: () => boolean
  readonly #pool: MemoryPool
  /** The last received piece, after the rest of the piece before. */
  #received: Buffer = nothing
  /** The reader's position in `#received`. */
  #position = 0
  /** The bytes so far of a record that did not arrive in one piece, or all of them if it was given out. */
  #partial: Memory | undefined
  #partialLength = 0
  #isGivenOut = false
  /** Bytes of the current fragment that are still to come; undefined before its mark. */
  #left: number | undefined
  #isLast = false

  /**
   * @param mayBeLarge called before a record of more than `smallRecordBytes` is kept
   * @param pool for records that do not arrive in one piece
   */
  constructor(most: number, mayBeLarge: () => boolean = () => true, pool = noPool) {
    this.#most = most
    this.#mayBeLarge = mayBeLarge
    this.#pool = pool
  }

  /** To be called at the end. Gives back the memory: the last record is not valid any more. */
  free(): void {
    if (this.#partial) this.#pool.giveBack(this.#partial)
    this.#partial = undefined
  }

  /** Whether a part of a large record was received. */
  get isWithinLargeRecord(): boolean {
    return this.#partialLength + (this.#left ?? 0) > smallRecordBytes
  }

  /** Whether a part of a record was received. */
  get isWithinRecord(): boolean {
    return this.#available > 0 || this.#left !== undefined || this.#partialLength > 0
  }

  get #available(): number {
    return this.#received.length - this.#position
  }

  /** @returns whether all of the piece was copied, so that the reader does not need it any more */
  push(piece: Buffer): boolean {
    // A piece within a large record. The last one is left to `next`, since the record may end in it.
    if (this.#available === 0 && this.#left !== undefined && piece.length < this.#left) {
      this.#append(piece)
      this.#left -= piece.length
      return true
    }
    this.#received = this.#available === 0 ? piece : Buffer.concat([this.#rest(), piece])
    this.#position = 0
    return false
  }

  /**
   * The next record, or undefined until more is received. It is valid until the next call.
   *
   * @throws `RecordTooLarge` as soon as the length of a fragment is too large
   */
  next(): Buffer | undefined {
    if (this.#isGivenOut) this.free()
    this.#isGivenOut = false
    for (;;) {
      if (this.#left === undefined && !this.#readMark()) break
      const left = this.#left ?? 0
      const isWhole = this.#available >= left
      if (isWhole && this.#isLast && this.#partialLength === 0) {
        // Nearly all records come in one fragment and one piece. They need no copy.
        this.#left = undefined
        return this.#shift(left)
      }
      const part = this.#shift(Math.min(left, this.#available))
      this.#append(part)
      this.#left = left - part.length
      if (!isWhole) break
      this.#left = undefined
      if (!this.#isLast) continue
      const record = this.#partial?.bytes.subarray(0, this.#partialLength)
      this.#partialLength = 0
      this.#isGivenOut = true
      return record
    }
    // Copy the few bytes that are left: a view of them would keep the whole piece in memory.
    this.#received = this.#available === 0 ? nothing : Buffer.from(this.#rest())
    this.#position = 0
    return undefined
  }

  #readMark(): boolean {
    if (this.#available < markBytes) return false
    const mark = this.#received.readUInt32BE(this.#position)
    this.#position += markBytes
    this.#isLast = mark >= lastFragment
    const left = mark % lastFragment
    const length = this.#partialLength + left
    const isAllowed = length <= smallRecordBytes || this.#mayBeLarge()
    if (length > this.#most || !isAllowed)
      throw new RecordTooLarge(`a record of ${length} bytes or more`)
    // Only now: nothing of a refused record is kept.
    this.#left = left
    return true
  }

  #shift(length: number): Buffer {
    this.#position += length
    return this.#received.subarray(this.#position - length, this.#position)
  }

  #rest(): Buffer {
    return this.#received.subarray(this.#position)
  }

  #append(bytes: Buffer): void {
    if (bytes.length === 0) return
    const length = this.#partialLength + bytes.length
    if (!this.#partial || length > this.#partial.bytes.length) {
      // Memory for all of the fragment only if more of it comes: what a client announces costs it nothing.
      const isBegun = this.#partialLength > 0
      const larger = this.#pool.take(isBegun ? this.#partialLength + (this.#left ?? 0) : length)
      this.#partial?.bytes.copy(larger.bytes, 0, 0, this.#partialLength)
      this.free()
      this.#partial = larger
    }
    bytes.copy(this.#partial.bytes, this.#partialLength)
    this.#partialLength = length
  }
}
