/**
 * An entry of the pool: a directory with the tree of a store path and a record of the tree. A
 * rename makes the complete entry appear at once. The entry's name is the NAR hash of the tree.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

import { isSecretKind, secretRules, type TreeSecret } from '../secrets.ts'

export const treeName = 'tree'
export const entryFile = 'entry.json'

export interface Entry {
  narSize: number
  /** The id of the machine's boot in which the tree was last known to be whole. */
  bootId: string
  /** The secrets in the tree. Undefined if nobody has looked for them by the rules of now. */
  secrets: TreeSecret[] | undefined
}

let knownBootId: string | undefined

/**
 * We do not sync each file, because that would take longer than unpacking. So a loss of power may
 * have cut off files that were unpacked before the machine last started. Such trees are hashed
 * again before use.
 */
export function currentBootId(): string {
  return (knownBootId ??= readBootId())
}

function readBootId(): string {
  try {
    if (process.platform === 'darwin') {
      return execFileSync('/usr/sbin/sysctl', ['-n', 'kern.bootsessionuuid'], { encoding: 'utf8' })
    }
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    // On other systems each process counts as a boot: trees are hashed more often than needed.
    return `process-${process.pid}-${Date.now()}`
  }
}

/** A record of more secrets would be too large. */
export const maxKeptSecrets = 100

export function formatEntry({ narSize, secrets }: Omit<Entry, 'bootId'>): string {
  const entry = { narSize, bootId: currentBootId() }
  if (!secrets || secrets.length > maxKeptSecrets) return `${JSON.stringify(entry)}\n`
  return `${JSON.stringify({ ...entry, searched: { rules: secretRules(), secrets } })}\n`
}

/** @returns undefined if the text is not a valid record */
export function parseEntry(text: string): Entry | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null) return undefined
    if (!('narSize' in value) || !('bootId' in value)) return undefined
    const { narSize, bootId } = value
    if (typeof narSize !== 'number' || typeof bootId !== 'string') return undefined
    if (!Number.isSafeInteger(narSize) || narSize <= 0) return undefined
    return {
      narSize,
      bootId,
      secrets: 'searched' in value ? parseSearched(value.searched) : undefined,
    }
  } catch {
    return undefined
  }
}

function parseSearched(value: unknown): TreeSecret[] | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if (!('rules' in value) || !('secrets' in value) || value.rules !== secretRules())
    return undefined
  const { secrets } = value
  return Array.isArray(secrets) && secrets.every(isTreeSecret) ? secrets : undefined
}

function isTreeSecret(value: unknown): value is TreeSecret {
  if (typeof value !== 'object' || value === null) return false
  return (
    'path' in value && typeof value.path === 'string' && 'kind' in value && isSecretKind(value.kind)
  )
}
