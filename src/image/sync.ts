/** Waits until files are on the disk, so that a loss of power does not cut them off. */
import type { Progress } from '../progress.ts'
import { syncDisk } from '../sync-disk.ts'

/** @param advice what to do after a loss of power if the program `sync` does not work: a sentence */
export async function syncFileSystem(
  directory: string,
  signal: AbortSignal,
  progress: Progress,
  advice: string,
): Promise<void> {
  const task = progress.begin('waiting for the disk')
  const why = await syncDisk(directory, signal)
  if (why === undefined) task.end('wrote the image to the disk')
  else {
    progress.warn(`cannot wait until the image is on the disk: ${why}. ${advice}`)
  }
}
