/**
 * Content addresses: a path that names the hash of its own content needs no signature, once both
 * steps of that claim recompute: the store path from the address, and the address from the content.
 *
 * https://nix.dev/manual/nix/latest/protocols/store-path
 */
import { createHash } from 'node:crypto'

import * as base32 from './base32.ts'
import { parseHash, type Hash } from './hash.ts'
import type { PathInfo } from './path-info.ts'
import { hashPartOf, nameOf, storeDir, type StorePath } from './store-path.ts'

export interface ContentAddress {
  /** `text`: a file that may refer to others; `flat`: one file; `nar`: the NAR. */
  method: 'text' | 'flat' | 'nar'
  hash: Hash
}

/** Parses `text:sha256:…`, `fixed:sha256:…` and `fixed:r:sha256:…`; undefined for any other. */
export function parseContentAddress(text: string): ContentAddress | undefined {
  const [, prefix, digest = ''] = /^(text:|fixed:r:|fixed:)([a-z0-9]+:.+)$/s.exec(text) ?? []
  const hash = parseHash(digest)
  if (!hash) return undefined
  if (prefix === 'text:') return hash.algorithm === 'sha256' ? { method: 'text', hash } : undefined
  return { method: prefix === 'fixed:r:' ? 'nar' : 'flat', hash }
}

/** Whether `info.path` is the path that its content address leads to. */
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

/** What has to be hashed, besides the NAR itself, to recompute a content address. */
export interface ContentCheck {
  algorithm: Hash['algorithm']
  hex: string
  /** The whole NAR, or only the content of the one file in it. */
  over: 'nar' | 'file'
  /** The path's own hash part where it refers to itself: it counts as zeros. */
  selfHashPart?: string
}

/**
 * The check that the content owes, or undefined where the NAR hash already proves it.
 */
export function contentCheck(info: PathInfo, address: ContentAddress): ContentCheck | undefined {
  const { algorithm, hex } = address.hash
  if (address.method !== 'nar') return { algorithm, hex, over: 'file' }
  const self = info.references.includes(info.path)
  if (algorithm === 'sha256' && hex === info.narHash.hex) return undefined
  return { algorithm, hex, over: 'nar', ...(self && { selfHashPart: hashPartOf(info.path) }) }
}
