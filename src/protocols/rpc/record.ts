/**
 * Record marking: how messages stand in a stream of bytes [RFC 5531 §11]. A record is one or more
 * fragments; before each stand four bytes, its length and whether it is the last one.
 */

/** Of a fragment's length. */
export const lastFragment = 0x8000_0000

export const markBytes = 4

/** All calls but those that write data to files. */
export const smallRecordBytes = 8192

/** A record that is larger than any call of ours, or than this client's may be. */
export class RecordTooLarge extends Error {
  override readonly name = 'RecordTooLarge'
}

/**
 * Takes records out of what is received, piece by piece. It holds no more than what was received
 * of one record, and at most `most` bytes.
 */
export class RecordReader {
  readonly #most: number
  readonly #mayBeLarge: () => boolean
  /** What was received last, with what was left of the piece before. */
  #received: Buffer = Buffer.alloc(0)
  /** Where in it the reader is. */
  #position = 0
  /** Of a record that did not come whole in one piece: its bytes so far. */
  #partial: Buffer = Buffer.alloc(0)
  #partialLength = 0
  /** Bytes of the current fragment that are still to come; undefined before its mark. */
  #left: number | undefined
  #isLast = false

  /** @param mayBeLarge asked before a record is kept that has more than `smallRecordBytes` */
  constructor(most: number, mayBeLarge: () => boolean = () => true) {
    this.#most = most
    this.#mayBeLarge = mayBeLarge
  }

  /** Whether it holds the beginning of a large record. */
  get isWithinLargeRecord(): boolean {
    return this.#partialLength + (this.#left ?? 0) > smallRecordBytes
  }

  /** Whether it holds the beginning of a record. */
  get isWithinRecord(): boolean {
    return this.#available > 0 || this.#left !== undefined || this.#partialLength > 0
  }

  get #available(): number {
    return this.#received.length - this.#position
  }

  push(piece: Buffer): void {
    this.#received = this.#available === 0 ? piece : Buffer.concat([this.#rest(), piece])
    this.#position = 0
  }

  /**
   * The next record, or undefined until more is received. It is valid until the next call.
   *
   * @throws `RecordTooLarge` as soon as a mark announces it
   */
  next(): Buffer | undefined {
    for (;;) {
      if (this.#left === undefined && !this.#readMark()) break
      const left = this.#left ?? 0
      const isWhole = this.#available >= left
      if (isWhole && this.#isLast && this.#partialLength === 0) {
        // As nearly all records come: in one fragment and one piece, which needs no copy.
        this.#left = undefined
        return this.#shift(left)
      }
      const part = this.#shift(Math.min(left, this.#available))
      this.#append(part)
      this.#left = left - part.length
      if (!isWhole) break
      this.#left = undefined
      if (!this.#isLast) continue
      const record = this.#partial.subarray(0, this.#partialLength)
      this.#partial = Buffer.alloc(0)
      this.#partialLength = 0
      return record
    }
    // The few bytes of a mark that may be left must not keep the whole piece.
    this.#received = Buffer.from(this.#rest())
    this.#position = 0
    return undefined
  }

  #readMark(): boolean {
    if (this.#available < markBytes) return false
    const mark = this.#received.readUInt32BE(this.#position)
    this.#position += markBytes
    this.#isLast = mark >= lastFragment
    this.#left = mark % lastFragment
    const length = this.#partialLength + this.#left
    const isAllowed = length <= smallRecordBytes || this.#mayBeLarge()
    if (length > this.#most || !isAllowed)
      throw new RecordTooLarge(`a record of ${length} bytes or more`)
    return true
  }

  #shift(length: number): Buffer {
    this.#position += length
    return this.#received.subarray(this.#position - length, this.#position)
  }

  #rest(): Buffer {
    return this.#received.subarray(this.#position)
  }

  /** Grows by doubling: many small fragments cost no more than a large one. */
  #append(bytes: Buffer): void {
    const length = this.#partialLength + bytes.length
    if (length > this.#partial.length) {
      const capacity = Math.min(this.#most, Math.max(length, this.#partial.length * 2))
      const larger = Buffer.allocUnsafeSlow(capacity)
      this.#partial.copy(larger, 0, 0, this.#partialLength)
      this.#partial = larger
    }
    bytes.copy(this.#partial, this.#partialLength)
    this.#partialLength = length
  }
}
