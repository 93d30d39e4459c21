/** Waits until files are on the disk, so that a loss of power does not cut them off. */
import { messageOf, NetimageError } from '../errors.ts'
import type { Progress } from '../progress.ts'
import { runProgram } from '../run-program.ts'

/**
 * Node has no syncfs(2), but the `sync` of coreutils and busybox calls it. One syncfs(2) is much
 * faster than one fsync(2) for each file.
 *
 * @param advice what to do after a loss of power if that program does not work: a sentence
 */
export async function syncFileSystem(
  directory: string,
  signal: AbortSignal,
  progress: Progress,
  advice: string,
): Promise<void> {
  const task = progress.begin('waiting for the disk')
  const why = await complaint(directory, signal)
  if (why === undefined) task.end('wrote the image to the disk')
  else {
    progress.warn(`cannot wait until the image is on the disk: ${why}. ${advice}`)
  }
}

async function complaint(directory: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const hint = 'Install coreutils.'
    const { status, stderr } = await runProgram('sync', ['-f', directory], { hint, signal })
    return status === 0 ? undefined : stderr.trim() || `sync ended with ${status}`
  } catch (error) {
    if (error instanceof NetimageError && error.code !== 'interrupted') return messageOf(error)
    throw error
  }
}
