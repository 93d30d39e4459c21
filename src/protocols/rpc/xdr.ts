/**
 * XDR, the encoding of ONC RPC [RFC 4506]: big-endian words of four bytes; other data are padded to
 * whole words.
 */
import { noPool, type Memory, type MemoryPool } from './memory-pool.ts'

/** The received data break the protocol. */
export class XdrError extends Error {
  override readonly name = 'XdrError'
}

const word = 4

/** @returns the number of zero bytes after data of this length */
export function padding(length: number): number {
  return (word - (length % word)) % word
}

/** Reads values one after the other. Each method throws `XdrError` if the bytes end too early. */
export class XdrReader {
  readonly #bytes: Buffer
  #position = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** The number of bytes that were read. */
  get position(): number {
    return this.#position
  }

  /** The bytes from a position to the end. */
  since(position: number): Buffer {
    return this.#bytes.subarray(position)
  }

  #take(length: number): number {
    const start = this.#position
    if (length > this.#bytes.length - start) throw new XdrError('the message ends too early')
    this.#position = start + length
    return start
  }

  uint32(): number {
    return this.#bytes.readUInt32BE(this.#take(word))
  }

  /** At most `Number.MAX_SAFE_INTEGER`: no valid offset or size is larger. */
  uint64(): number {
    const value = this.uint32() * 2 ** 32 + this.uint32()
    return Math.min(value, Number.MAX_SAFE_INTEGER)
  }

  boolean(): boolean {
    const value = this.uint32()
    if (value > 1) throw new XdrError(`${value} is not a boolean`)
    return value === 1
  }

  /** Bytes of a length that the protocol defines; a view, not a copy. */
  fixed(length: number): Buffer {
    const start = this.#take(length)
    this.#take(padding(length))
    return this.#bytes.subarray(start, start + length)
  }

  /** Opaque bytes or a string, after their length; a view, not a copy. */
  opaque(most = Infinity): Buffer {
    const length = this.uint32()
    if (length > most) throw new XdrError(`${length} bytes are more than the limit of ${most}`)
    return this.fixed(length)
  }
}

/** Writes values into memory that grows if necessary. */
export class XdrWriter {
  readonly #pool: MemoryPool
  #memory: Memory
  /** Of `#memory`. */
  #bytes: Buffer
  #view: DataView
  /** The number of bytes that were written. */
  length = 0

  constructor(capacity: number, pool = noPool) {
    this.#pool = pool
    this.#memory = pool.take(capacity)
    this.#bytes = this.#memory.bytes
    this.#view = this.#memory.view
  }

  /** Gives back the memory. The writer must not be used any more, and neither must views of what it has written. */
  free(): void {
    this.#pool.giveBack(this.#memory)
  }

  /** A view of the written bytes; valid until the next write. */
  written(from = 0): Buffer {
    return this.#bytes.subarray(from, this.length)
  }

  /** Removes the bytes from this position on. */
  truncate(length: number): void {
    this.length = length
  }

  #reserve(length: number): number {
    const start = this.length
    const end = start + length
    if (end > this.#bytes.length) {
      const larger = this.#pool.take(end)
      this.#bytes.copy(larger.bytes, 0, 0, start)
      this.#pool.giveBack(this.#memory)
      this.#memory = larger
      this.#bytes = larger.bytes
      this.#view = larger.view
    }
    this.length = end
    return start
  }

  uint32(value: number): void {
    const start = this.#reserve(word)
    this.#view.setUint32(start, value)
  }

  /** @param at the position of a word that was written already */
  replaceUint32(at: number, value: number): void {
    this.#view.setUint32(at, value)
  }

  /** @param value a safe integer, not negative */
  uint64(value: number): void {
    const start = this.#reserve(2 * word)
    this.#view.setUint32(start, value / 2 ** 32)
    this.#view.setUint32(start + word, value)
  }

  boolean(value: boolean): void {
    this.uint32(value ? 1 : 0)
  }

  /** Bytes of a length that the protocol defines. */
  fixed(bytes: Uint8Array): void {
    const end = this.#reserve(bytes.length) + bytes.length
    this.#bytes.set(bytes, end - bytes.length)
    this.#pad(bytes.length)
  }

  opaque(bytes: Uint8Array): void {
    this.uint32(bytes.length)
    this.fixed(bytes)
  }

  string(text: string): void {
    this.opaque(Buffer.from(text))
  }

  /**
   * Opaque bytes that `fill` writes in place. `fill` gets a buffer of `most` bytes, and returns the
   * number of bytes that it wrote.
   */
  opaqueInPlace(most: number, fill: (room: Buffer) => number): number {
    const at = this.#reserve(word + most)
    const length = fill(this.#bytes.subarray(at + word, at + word + most))
    this.#view.setUint32(at, length)
    this.length = at + word + length
    this.#pad(length)
    return length
  }

  #pad(length: number): void {
    const zeros = padding(length)
    if (zeros === 0) return
    const start = this.#reserve(zeros)
    this.#bytes.fill(0, start, start + zeros)
  }
}
