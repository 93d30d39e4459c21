/**
 * Hashes as Nix writes them: `sha256:<base16 | nix32 | base64>` and SRI (`sha256-<base64>`).
 *
 * https://nix.dev/manual/nix/latest/protocols/json/hash
 */
import * as base32 from './base32.ts'

export type HashAlgorithm = 'md5' | 'sha1' | 'sha256' | 'sha512'

export interface Hash {
  algorithm: HashAlgorithm
  /** The digest in base16. We compare hashes in this form. */
  hex: string
}

const digestBytes: Record<HashAlgorithm, number> = { md5: 16, sha1: 20, sha256: 32, sha512: 64 }

function isAlgorithm(text: string): text is HashAlgorithm {
  return Object.hasOwn(digestBytes, text)
}

/** Parses a typed hash in any of Nix's encodings. @returns undefined if the text is not a hash */
export function parseHash(text: string): Hash | undefined {
  const match = /^(md5|sha1|sha256|sha512)([:-])(.+)$/s.exec(text)
  const [, algorithm = '', separator, digest = ''] = match ?? []
  if (!isAlgorithm(algorithm)) return undefined
  const bytes = decodeDigest(digest, digestBytes[algorithm], separator === '-')
  return bytes && { algorithm, hex: Buffer.from(bytes).toString('hex') }
}

function decodeDigest(text: string, size: number, sri: boolean): Uint8Array | undefined {
  if (!sri && text.length === size * 2 && /^[0-9a-f]+$/.test(text)) return Buffer.from(text, 'hex')
  if (!sri && text.length === base32.encodedLength(size)) return base32.decode(text)
  const bytes = Buffer.from(text, 'base64')
  return bytes.length === size && bytes.toString('base64') === text ? bytes : undefined
}

export function digestToBase32(hash: Hash): string {
  return base32.encode(Buffer.from(hash.hex, 'hex'))
}

/** `sha256:<nix32>`: the form in narinfos, signatures and registrations. */
export function formatHash(hash: Hash): string {
  return `${hash.algorithm}:${digestToBase32(hash)}`
}
