/**
 * An entry of the pool: a directory that holds a store path's tree and what we know of it. It
 * appears whole, by a rename, and is named after the tree's NAR hash.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

export const treeName = 'tree'
export const entryFile = 'entry.json'

export interface Entry {
  narSize: number
  /** The boot of the machine in which the tree was last known to be whole. */
  bootId: string
}

let knownBootId: string | undefined

/**
 * Files are not synced one by one, which would cost more than unpacking them. So what was
 * unpacked before the machine last started may have been cut off by the loss of power, and is
 * hashed once more before it counts.
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
    // On other systems each process counts as a boot of its own: slower, never wrong.
    return `process-${process.pid}-${Date.now()}`
  }
}

export function formatEntry({ narSize }: { narSize: number }): string {
  const entry: Entry = { narSize, bootId: currentBootId() }
  return JSON.stringify(entry) + '\n'
}

/** Undefined where the text is no entry: then the tree does not count either. */
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
