/**
 * narinfo: the description of one store path in a binary cache, as `Key: value` lines.
 *
 * https://nix.dev/manual/nix/latest/protocols/binary-cache/narinfo
 */
import { NetimageError, type ErrorDetails } from '../errors.ts'
import { compressions, isCompression, type Compression } from './compression.ts'
import { parseHash, type Hash } from './hash.ts'
import { sortedReferences, type PathInfo } from './path-info.ts'
import { fromBaseName, toStorePath, type StorePath } from './store-path.ts'

export interface NarInfo extends PathInfo {
  /** The place of the compressed NAR: a path relative to the cache, or a whole URL. */
  url: string
  compression: Compression
  /** SHA-256 of the compressed NAR. */
  fileHash?: Hash
  /** The size of the compressed NAR in bytes. */
  fileSize?: number
}

/** The limit for reading. A narinfo with a thousand references has about 60 KB. */
export const maxNarInfoBytes = 4 << 20

/**
 * @param path the requested store path. A narinfo of another path is an error
 * @param source the URL of the text, for the error
 */
export function parseNarInfo(text: string, path: StorePath, source: string): NarInfo {
  const broken: Broken = (why, details) =>
    new NetimageError('bad-narinfo', `${source} is not a narinfo of ${path}: ${why}`, {
      hint: 'The cache is broken, or another server answers in its place.',
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
    throw broken(`it describes ${details.actual}`, details)
  }
  const deriver = optional('Deriver', parseDeriver)
  const ca = fields.get('CA')
  const fileHash = optional('FileHash', parseSha256)
  // Nix reads 0 as "unknown".
  const fileSize = fields.get('FileSize') === '0' ? undefined : optional('FileSize', parseSize)
  // Old versions of Nix used bzip2 and did not name the compression.
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
  if (lines.pop() !== '') throw broken('its last line is cut off', { field: 'end' })
  for (const line of lines) {
    const colon = line.indexOf(':')
    if (colon < 1) throw broken(`${JSON.stringify(line.slice(0, 80))} is not "Key: value"`)
    const key = line.slice(0, colon)
    const value = line.slice(colon + 1).trim()
    if (key === 'Sig') signatures.push(value)
    else if (fields.has(key)) throw broken(`it has ${key} twice`, { field: key })
    else fields.set(key, value)
  }
  return { fields, signatures }
}

function parseSha256(text: string): Hash | undefined {
  const hash = parseHash(text)
  return hash?.algorithm === 'sha256' ? hash : undefined
}

/** A size is at least one byte. Nix reads NarSize 0 as "unknown", which we could not verify. */
function parseSize(text: string): number | undefined {
  const size = /^[0-9]{1,16}$/.test(text) ? Number(text) : 0
  return Number.isSafeInteger(size) && size > 0 ? size : undefined
}

function unknownCompression(text: string, path: StorePath, source: string): NetimageError {
  const named = JSON.stringify(text.slice(0, 80))
  return new NetimageError(
    'bad-narinfo',
    `${source} names the unknown compression ${named} for ${path}`,
    {
      hint: `netimage supports ${compressions.join(', ')}. Name another store with --from.`,
      details: { path, url: source, field: 'Compression', actual: text.slice(0, 80) },
    },
  )
}

function parseDeriver(text: string): StorePath | 'unknown' | undefined {
  return text === 'unknown-deriver' ? 'unknown' : fromBaseName(text)
}

function parseReferences(text: string): StorePath[] | undefined {
  const references = text.split(/\s+/).map(fromBaseName)
  const valid = references.filter((reference) => reference !== undefined)
  return valid.length === references.length ? sortedReferences(valid) : undefined
}
