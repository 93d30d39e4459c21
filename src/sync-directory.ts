/** Makes new and changed names in a directory survive a loss of power. */
import { closeSync, fsyncSync, openSync } from 'node:fs'
import { open } from 'node:fs/promises'

export function syncDirectory(directory: string): void {
  const file = openSync(directory, 'r')
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/** As `syncDirectory`, but does not block. */
export async function syncDirectorySoon(directory: string): Promise<void> {
  await using file = await open(directory, 'r')
  await file.sync()
}
