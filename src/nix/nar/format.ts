/**
 * The words of a NAR and our limits for NARs.
 *
 * Every string is a 64-bit little-endian length, the bytes, and zeros up to a multiple of 8.
 * https://nix.dev/manual/nix/latest/protocols/nix-archive
 */

export const maxNameBytes = 255
export const maxTargetBytes = 4095
/** Nix has the same limit since CVE-2026-44028: deeper trees exhaust the stack of programs. */
export const maxDepth = 64

/** The number of padding bytes after `size` bytes. */
export function paddingOf(size: number): number {
  return (8 - (size % 8)) % 8
}

/** Encodes `words` one after another. */
function encodeWords(...words: string[]): Buffer {
  const parts = words.map((word) => {
    const bytes = Buffer.alloc(8 + word.length + paddingOf(word.length))
    bytes.writeUInt32LE(word.length)
    bytes.write(word, 8, 'latin1')
    return bytes
  })
  return Buffer.concat(parts)
}

/** The constant words between the variable parts. */
export const words = {
  begin: encodeWords('nix-archive-1', '(', 'type'),
  regular: encodeWords('regular'),
  executable: encodeWords('executable', ''),
  contents: encodeWords('contents'),
  symlink: encodeWords('symlink'),
  target: encodeWords('target'),
  directory: encodeWords('directory'),
  entry: encodeWords('entry', '(', 'name'),
  node: encodeWords('node', '(', 'type'),
  close: encodeWords(')'),
} as const
