/**
 * narinfo: what a binary cache says of one store path, as `Key: value` lines.
 *
 * https://nix.dev/manual/nix/latest/protocols/binary-cache/narinfo
 */
import { NetimageError, type ErrorDetails } from '../errors.ts'
import { compressions, isCompression, type Compression } from './compression.ts'
import { parseHash, type Hash } from './hash.ts'
import { sortedReferences, type PathInfo } from './path-info.ts'
import { fromBaseName, toStorePath, type StorePath } from './store-path.ts'

export interface NarInfo extends PathInfo {
  /** Where the compressed NAR lies: relative to the cache, or a whole URL. */
  url: string
  compression: Compression
  /** SHA-256 of the compressed NAR. */
  fileHash?: Hash
  /** Bytes of the compressed NAR. */
  fileSize?: number
}

/** A narinfo with a thousand references takes about 60 KB; this bounds what is read. */
export const maxNarInfoBytes = 4 << 20

/**
 * @param path the store path that was asked for: a narinfo of another is an error
 * @param source where the text is from, for the error
 */
export function parseNarInfo(text: string, path: StorePath, source: string): NarInfo {
  const broken: Broken = (why, details) =>
    new NetimageError('bad-narinfo', `${source} is not a narinfo of ${path}: ${why}`, {
      hint: 'The cache is broken, or something between it and this machine answers in its place.',
      details: { path, url: source, ...details },
    })
  const { fields, signatures } = readFields(text, broken)
  const required = (key: string): string => {
    const value = fields.get(key)
    if (value === undefined || value === '') throw broken(`it has no ${key}`, { field: key })
    return value
  }
  const parsed = <T>(key: string, parse: (value: string) => T | undefined): T => {
    const value = required(key)
    const result = parse(value)
    if (result === undefined) {
      const actual = value.slice(0, 200)
      throw broken(`${key} is ${JSON.stringify(actual)}`, { field: key, actual })
    }
    return result
  }
  const optional = <T>(key: string, parse: (value: string) => T | undefined): T | undefined =>
    fields.get(key) ? parsed(key, parse) : undefined

  if (parsed('StorePath', toStorePath) !== path) {
    const details = { field: 'StorePath', expected: path, actual: required('StorePath') }
    throw broken(`it is of ${details.actual}`, details)
  }
  const deriver = optional('Deriver', parseDeriver)
  const ca = fields.get('CA')
  const fileHash = optional('FileHash', parseSha256)
  // Nix takes 0 for "unknown".
  const fileSize = fields.get('FileSize') === '0' ? undefined : optional('FileSize', parseSize)
  // Nix wrote bzip2 before it named the compression.
  const compression = fields.get('Compression') || 'bzip2'
  if (!isCompression(compression)) throw unknownCompression(compression, path, source)
  return {
    path,
    url: required('URL'),
    compression,
    narHash: parsed('NarHash', parseSha256),
    narSize: parsed('NarSize', parseSize),
    references: optional('References', parseReferences) ?? [],
    signatures,
    ...(deriver && deriver !== 'unknown' && { deriver }),
    ...(ca && { ca }),
    ...(fileHash && { fileHash }),
    ...(fileSize && { fileSize }),
  }
}

type Broken = (why: string, details?: ErrorDetails) => NetimageError

function readFields(text: string, broken: Broken) {
  const fields = new Map<string, string>()
  const signatures: string[] = []
  const lines = text.split('\n')
  if (lines.pop() !== '') throw broken('its last line is cut off')
  for (const line of lines) {
    const colon = line.indexOf(':')
    if (colon < 1) throw broken(`${JSON.stringify(line.slice(0, 80))} is not "Key: value"`)
    const key = line.slice(0, colon)
    const value = line.slice(colon + 1).trim()
    if (key === 'Sig') signatures.push(value)
    else if (fields.has(key)) throw broken(`${key} stands in it twice`, { field: key })
    else fields.set(key, value)
  }
  return { fields, signatures }
}

function parseSha256(text: string): Hash | undefined {
  const hash = parseHash(text)
  return hash?.algorithm === 'sha256' ? hash : undefined
}

/** A size is at least one byte: Nix takes NarSize 0 for "unknown", which we cannot verify. */
function parseSize(text: string): number | undefined {
  const size = /^[0-9]{1,16}$/.test(text) ? Number(text) : 0
  return Number.isSafeInteger(size) && size > 0 ? size : undefined
}

function unknownCompression(text: string, path: StorePath, source: string): NetimageError {
  const named = JSON.stringify(text.slice(0, 80))
  return new NetimageError('bad-narinfo', `${source} has ${path} in the compression ${named}`, {
    hint: `netimage reads ${compressions.join(', ')}: name another store with --from.`,
    details: { path, url: source, field: 'Compression', actual: text.slice(0, 80) },
  })
}

function parseDeriver(text: string): StorePath | 'unknown' | undefined {
  return text === 'unknown-deriver' ? 'unknown' : fromBaseName(text)
}

function parseReferences(text: string): StorePath[] | undefined {
  const references = text.split(/\s+/).map(fromBaseName)
  const valid = references.filter((reference) => reference !== undefined)
  return valid.length === references.length ? sortedReferences(valid) : undefined
}
