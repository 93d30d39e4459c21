/** Makes the contents of a file survive a loss of power. */
import { closeSync, fsync, fsyncSync } from 'node:fs'
import { promisify } from 'node:util'

import { openRegularFile } from './open-safely.ts'

const fsyncAsync = promisify(fsync)

export function syncFile(path: string): void {
  const file = openRegularFile(path)
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/** As `syncFile`, but does not block. */
export async function syncFileSoon(path: string): Promise<void> {
  const file = openRegularFile(path)
  try {
    await fsyncAsync(file)
  } finally {
    closeSync(file)
  }
}
