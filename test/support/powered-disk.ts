// A disk of a machine that loses its power: an ext4 is shut down, so what was not yet written is lost.

import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Of the file system itself. If it is `written`, the names and sizes of files survive that had been
 * changed, but not their data, so files that were not synced are empty.
 */
export type Log = 'lost' | 'written'

/** EXT4_GOING_FLAGS_NOLOGFLUSH and EXT4_GOING_FLAGS_LOGFLUSH: fs/ext4/ext4.h */
const flags: Record<Log, number> = { lost: 2, written: 1 }

/** A shell command. @param directory on the disk, as a word of the shell */
export function cutCommand(directory: string, log: Log): string {
  // EXT4_IOC_SHUTDOWN
  const shutdown = `$flags = pack("L", ${flags[log]}); ioctl(F, 0x8004587d, $flags)`
  return `perl -e 'open(F, "<", $ARGV[0]) or die; ${shutdown} or die' ${directory}`
}

export interface PoweredDisk {
  /** The directory at which the disk is mounted. */
  at: string
  cut(log: Log): void
  /** After a cut. @returns the other directory at which the disk is mounted now */
  mountAgain(): string
  /** A disk with the same files, at another directory that does not exist yet. */
  copy(directory: string): PoweredDisk
  remove(): void
}

/** To be called by root in a mount namespace of its own. @param directory does not exist yet */
export function makePoweredDisk(directory: string): PoweredDisk {
  return makeDisk(directory, 'mke2fs -q -t ext4 "$file" 32M >&2')
}

function makeDisk(directory: string, makeFile: string): PoweredDisk {
  const file = join(directory, 'disk')
  // This process may not trust files whose sync failed, if they have the same name.
  const [at, again] = [join(directory, 'mounted'), join(directory, 'mounted-again')]
  const env = { ...process.env, directory, file, at, again }
  const run = (command: string) => void execFileSync('sh', ['-euc', command], { env })
  mkdirSync(at, { recursive: true })
  run(`${makeFile}; mount -o loop "$file" "$at"`)
  return {
    at,
    cut: (log) => run(cutCommand('"$at"', log)),
    mountAgain() {
      run('umount "$at"; mv "$at" "$again"; mount -o loop "$file" "$again"')
      return again
    },
    copy(other) {
      run('sync -f "$at"')
      return makeDisk(other, `cp --sparse=always '${file}' "$file"`)
    },
    remove: () => run('umount "$directory"/mounted*; rm -r "$directory"'),
  }
}
