/**
 * An entry of the pool: a directory with the tree of a store path and a record of the tree. A
 * rename makes the complete entry appear at once. The entry's name is the NAR hash of the tree.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

export const treeName = 'tree'
export const entryFile = 'entry.json'

export interface Entry {
  narSize: number
  /** The id of the machine's boot in which the tree was last known to be whole. */
  bootId: string
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

export function formatEntry({ narSize }: { narSize: number }): string {
  const entry: Entry = { narSize, bootId: currentBootId() }
  return JSON.stringify(entry) + '\n'
}

/** @returns undefined if the text is not a valid record */
export function parseEntry(text: string): Entry | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null) return undefined
    if (!('narSize' in value) || !('bootId' in value)) return undefined
    const { narSize, bootId } = value
    if (typeof narSize !== 'number' || typeof bootId !== 'string') return undefined
    return Number.isSafeInteger(narSize) && narSize > 0 ? { narSize, bootId } : undefined
  } catch {
    return undefined
  }
}
