/**
 * Content addresses: a path that is named by the hash of its own content needs no signature. Two
 * things are verified instead: the store path follows from the address, and the address from the
 * content.
 *
 * https://nix.dev/manual/nix/latest/protocols/store-path
 */
import { createHash } from 'node:crypto'

import * as base32 from './base32.ts'
import { parseHash, type Hash } from './hash.ts'
import type { PathInfo } from './path-info.ts'
import { hashPartOf, nameOf, storeDir, type StorePath } from './store-path.ts'

export interface ContentAddress {
  /** `text`: a file that may have references; `flat`: a file without references; `nar`: a NAR. */
  method: 'text' | 'flat' | 'nar'
  hash: Hash
}

/** Parses `text:sha256:…`, `fixed:sha256:…` and `fixed:r:sha256:…`. Any other is undefined. */
export function parseContentAddress(text: string): ContentAddress | undefined {
  const [, prefix, digest = ''] = /^(text:|fixed:r:|fixed:)([a-z0-9]+:.+)$/s.exec(text) ?? []
  const hash = parseHash(digest)
  if (!hash) return undefined
  if (prefix === 'text:') return hash.algorithm === 'sha256' ? { method: 'text', hash } : undefined
  return { method: prefix === 'fixed:r:' ? 'nar' : 'flat', hash }
}

/** Whether `info.path` follows from the content address. */
export function recomputesPath(info: PathInfo, address: ContentAddress): boolean {
  return storePathDigest(info, address) === hashPartOf(info.path)
}

function storePathDigest(info: PathInfo, { method, hash }: ContentAddress): string | undefined {
  const others = info.references.filter((reference) => reference !== info.path)
  const self = others.length !== info.references.length
  if (method === 'text') {
    return self ? undefined : digest(info.path, ['text', ...others].join(':'), hash)
  }
  if (method === 'nar' && hash.algorithm === 'sha256') {
    return digest(info.path, ['source', ...others, ...(self ? ['self'] : [])].join(':'), hash)
  }
  if (info.references.length > 0) return undefined
  const recursive = method === 'nar' ? 'r:' : ''
  const inner = sha256(`fixed:out:${recursive}${hash.algorithm}:${hash.hex}:`)
  return digest(info.path, 'output:out', { algorithm: 'sha256', hex: inner.toString('hex') })
}

function digest(path: StorePath, type: string, hash: Hash): string {
  const full = sha256(`${type}:${hash.algorithm}:${hash.hex}:${storeDir}:${nameOf(path)}`)
  // The 32 bytes are folded into 20 by exclusive or.
  const folded = Buffer.alloc(20)
  full.forEach((byte, index) => (folded[index % 20] = (folded[index % 20] ?? 0) ^ byte))
  return base32.encode(folded)
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/** A hash of the content to check, besides the hash of the NAR. */
export interface ContentCheck {
  algorithm: Hash['algorithm']
  hex: string
  /** The whole NAR, or only the content of the one file in it. */
  over: 'nar' | 'file'
  /** The hash part of a path that refers to itself: it is replaced by zeros before hashing. */
  selfHashPart?: string
}

/** @returns undefined if the NAR hash already proves the content address */
export function contentCheck(info: PathInfo, address: ContentAddress): ContentCheck | undefined {
  const { algorithm, hex } = address.hash
  if (address.method !== 'nar') return { algorithm, hex, over: 'file' }
  const self = info.references.includes(info.path)
  if (algorithm === 'sha256' && hex === info.narHash.hex) return undefined
  return { algorithm, hex, over: 'nar', ...(self && { selfHashPart: hashPartOf(info.path) }) }
}
