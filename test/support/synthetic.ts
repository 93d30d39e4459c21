// Invented store paths and binary caches of any size and number, with any mistake that a test
// needs. They are encoded without our own code, so that tests find mistakes in that code.

import { createHash, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib'

export type Tree =
  | { file: string | Buffer; executable?: boolean }
  | { link: string }
  | { directory: Record<string, Tree> }

/** The NAR of a tree. */
export function narOf(tree: Tree): Buffer {
  return Buffer.concat([narString('nix-archive-1'), ...node(tree)])
}

function* node(tree: Tree): Generator<Buffer> {
  yield narString('(')
  yield narString('type')
  if ('link' in tree) {
    yield* ['symlink', 'target', tree.link].map(narString)
  } else if ('file' in tree) {
    yield narString('regular')
    if (tree.executable ?? false) yield* ['executable', ''].map(narString)
    yield narString('contents')
    yield narString(tree.file)
  } else {
    yield narString('directory')
    const entries = Object.entries(tree.directory).sort(([a], [b]) =>
      Buffer.from(a).compare(Buffer.from(b)),
    )
    for (const [name, child] of entries) {
      yield* ['entry', '(', 'name', name, 'node'].map(narString)
      yield* node(child)
      yield narString(')')
    }
  }
  yield narString(')')
}

/** A string of a NAR: its length in 64 bits, its bytes, and zeros up to a multiple of eight. */
export function narString(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text)
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(bytes.length))
  return Buffer.concat([size, bytes, Buffer.alloc((8 - (bytes.length % 8)) % 8)])
}

/** Nix's base32, with the most significant digit first. */
export function nixBase32(bytes: Buffer): string {
  const alphabet = '0123456789abcdfghijklmnpqrsvwxyz'
  let number = BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`)
  let text = ''
  for (let digits = Math.ceil((bytes.length * 8) / 5); digits > 0; digits--) {
    text = (alphabet[Number(number & 31n)] ?? '') + text
    number >>= 5n
  }
  return text
}

export function sha256(bytes: Buffer | string): Buffer {
  return createHash('sha256').update(bytes).digest()
}

/** `sha256:<Nix's base32>` */
export function narHashText(digest: Buffer): string {
  return `sha256:${nixBase32(digest)}`
}

export function narHashOf(bytes: Buffer): string {
  return narHashText(sha256(bytes))
}

/** A store path with a valid name and hash part. */
export function inventPath(name: string): string {
  return `/nix/store/${nixBase32(sha256(`path of ${name}`).subarray(0, 20))}-${name}`
}

/** The store path that follows from a content address. */
export function addressedPath(name: string, type: string, digest: string): string {
  const full = sha256(`${type}:${digest}:/nix/store:${name}`)
  const folded = Buffer.alloc(20)
  full.forEach((byte, at) => (folded[at % 20] = (folded[at % 20] ?? 0) ^ byte))
  return `/nix/store/${nixBase32(folded)}-${name}`
}

export type SigningKey = { name: string; publicKey: string; privateKey: KeyObject }

export function makeKey(name: string): SigningKey {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const { x = '' } = publicKey.export({ format: 'jwk' })
  const bytes = Buffer.from(x, 'base64url').toString('base64')
  return { name, publicKey: `${name}:${bytes}`, privateKey }
}

export type Compression = 'none' | 'zstd' | 'br' | 'gzip'

const compressors: Record<Compression, (bytes: Buffer) => Buffer> = {
  none: (bytes) => bytes,
  zstd: (bytes) => zstdCompressSync(bytes),
  br: (bytes) => brotliCompressSync(bytes),
  gzip: (bytes) => gzipSync(bytes),
}

/** A path as its cache describes it. A test can make every part wrong. */
export type CachedPath = {
  path: string
  narHash: string
  narSize: number
  references: string[]
  url: string
  compression: Compression
  fileHash?: string | undefined
  fileSize?: number | undefined
  ca?: string | undefined
  /** Keys that sign the path after all other parts are set. */
  keys: SigningKey[]
  /** Signatures to use unchanged. */
  signatures: string[]
  /** The compressed NAR; undefined if the test serves the NAR itself. */
  file: Buffer | undefined
}

export type PathOptions = {
  references?: string[]
  compression?: Compression
  ca?: string
  keys?: SigningKey[]
}

export function cachedPath(
  path: string,
  tree: Tree | Buffer,
  { references = [], compression = 'zstd', ca, keys = [] }: PathOptions = {},
): CachedPath {
  const nar = Buffer.isBuffer(tree) ? tree : narOf(tree)
  const file = compressors[compression](nar)
  return {
    path,
    narHash: narHashOf(nar),
    narSize: nar.length,
    references,
    url: `nar/${path.slice(11, 43)}.nar`,
    compression,
    fileHash: narHashOf(file),
    fileSize: file.length,
    ca,
    keys,
    signatures: [],
    file,
  }
}

export function signatureOf(cached: CachedPath, key: SigningKey): string {
  const references = cached.references.toSorted().join(',')
  const message = `1;${cached.path};${cached.narHash};${cached.narSize};${references}`
  const bytes = sign(null, Buffer.from(message), key.privateKey)
  return `${key.name}:${bytes.toString('base64')}`
}

export function narinfoOf(cached: CachedPath): string {
  const { path, url, compression, narHash, narSize, references, fileHash, fileSize, ca } = cached
  const signatures = [...cached.signatures, ...cached.keys.map((key) => signatureOf(cached, key))]
  const lines = [
    `StorePath: ${path}`,
    `URL: ${url}`,
    `Compression: ${compression}`,
    ...(fileHash === undefined ? [] : [`FileHash: ${fileHash}`]),
    ...(fileSize === undefined ? [] : [`FileSize: ${fileSize}`]),
    `NarHash: ${narHash}`,
    `NarSize: ${narSize}`,
    `References: ${references.map((reference) => reference.slice(11)).join(' ')}`,
    ...(ca === undefined ? [] : [`CA: ${ca}`]),
    ...signatures.map((signature) => `Sig: ${signature}`),
  ]
  return lines.map((line) => `${line}\n`).join('')
}

/** The files of a binary cache, by their names. */
export function cacheFiles(paths: readonly CachedPath[]): Map<string, Buffer> {
  const files = new Map<string, Buffer>()
  files.set('nix-cache-info', Buffer.from('StoreDir: /nix/store\n'))
  for (const cached of paths) {
    files.set(`${cached.path.slice(11, 43)}.narinfo`, Buffer.from(narinfoOf(cached)))
    if (cached.file) files.set(cached.url, cached.file)
  }
  return files
}

/** The files of a store path that is a NixOS system, and a kernel in another path. */
export function inventSystem(
  label: string,
  references: string[],
  keys: SigningKey[],
): { toplevel: CachedPath; kernel: CachedPath } {
  const kernelPath = inventPath('linux-test')
  const kernel = cachedPath(kernelPath, { directory: { bzImage: { file: 'kernel\n' } } }, { keys })
  const tree: Tree = {
    directory: {
      init: { file: '#!/bin/sh\n', executable: true },
      kernel: { link: `${kernelPath}/bzImage` },
      'nixos-version': { file: label },
      system: { file: 'x86_64-linux' },
      'kernel-params': { file: 'console=ttyS0' },
    },
  }
  const toplevel = cachedPath(inventPath(`nixos-system-test-${label}`), tree, {
    references: [kernelPath, ...references],
    keys,
  })
  return { toplevel, kernel }
}

/** A system of many paths with content that does not compress. */
export function inventLargeSystem(
  label: string,
  { paths, bytes, keys }: { paths: number; bytes: number; keys: SigningKey[] },
): { toplevel: string; all: CachedPath[] } {
  const content = Array.from({ length: paths }, (_, index) => {
    const noise = createHash('shake256', { outputLength: bytes }).update(`${index}`).digest()
    const directory = { noise: { file: noise }, text: { file: `path ${index}\n` } }
    return cachedPath(inventPath(`content-${index}`), { directory }, { keys })
  })
  const { toplevel, kernel } = inventSystem(
    label,
    content.map(({ path }) => path),
    keys,
  )
  return { toplevel: toplevel.path, all: [toplevel, kernel, ...content] }
}

export function writeCache(directory: string, paths: readonly CachedPath[]): void {
  mkdirSync(join(directory, 'nar'), { recursive: true })
  for (const [name, content] of cacheFiles(paths)) writeFileSync(join(directory, name), content)
}
