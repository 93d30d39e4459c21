/** Waits until new files in a directory are on the disk, together. */
import { open } from 'node:fs/promises'
import { join } from 'node:path'

import { runProgram } from '../run-program.ts'

/**
 * Node has no syncfs(2), but the `sync` of coreutils and busybox calls it: it takes about a fiftieth of
 * the time of one fsync(2) for each clone (Btrfs).
 *
 * @param names of the files, asked for only if that program does not work
 */
export async function syncFiles(
  directory: string,
  names: () => AsyncIterable<string> | Iterable<string>,
): Promise<void> {
  if (await syncFileSystem(directory)) return
  for await (const name of names()) {
    await using file = await open(join(directory, name), 'r+')
    await file.sync()
  }
}

async function syncFileSystem(directory: string): Promise<boolean> {
  try {
    const { status } = await runProgram('sync', ['-f', directory], { hint: 'Install coreutils.' })
    return status === 0
  } catch {
    return false
  }
}
