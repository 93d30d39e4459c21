/**
 * Nix's base32, which is not that of RFC 4648: the alphabet has no e, o, u and t, and the first
 * digit encodes the highest bits of the last byte.
 *
 * https://github.com/NixOS/nix/blob/master/src/libutil/base-nix-32.cc
 */

export const alphabet = '0123456789abcdfghijklmnpqrsvwxyz'

const digitOf = new Map(alphabet.split('').map((character, digit) => [character, digit]))

/** The number of characters that encode `byteLength` bytes. */
export function encodedLength(byteLength: number): number {
  return Math.ceil((byteLength * 8) / 5)
}

export function encode(bytes: Uint8Array): string {
  let text = ''
  for (let position = encodedLength(bytes.length) - 1; position >= 0; position--) {
    const bit = position * 5
    const index = bit >> 3
    const window = (bytes[index] ?? 0) | ((bytes[index + 1] ?? 0) << 8)
    text += alphabet[(window >> (bit & 7)) & 31]
  }
  return text
}

/** @returns undefined if `text` is not the encoding of any bytes */
export function decode(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(Math.floor((text.length * 5) / 8))
  if (encodedLength(bytes.length) !== text.length) return undefined
  for (let position = 0; position < text.length; position++) {
    const digit = digitOf.get(text.charAt(text.length - position - 1))
    if (digit === undefined) return undefined
    const bit = position * 5
    const index = bit >> 3
    const shifted = digit << (bit & 7)
    bytes[index] = (bytes[index] ?? 0) | (shifted & 255)
    const carry = shifted >> 8
    if (index + 1 < bytes.length) bytes[index + 1] = (bytes[index + 1] ?? 0) | carry
    // Spare bits must be zero. Otherwise two texts would encode the same bytes.
    else if (carry !== 0) return undefined
  }
  return bytes
}
