/** Waits until all files of a file system are on the disk. */
import { messageOf, NetimageError } from './errors.ts'
import { runProgram } from './run-program.ts'

/**
 * Node has no syncfs(2), but the `sync` of coreutils and busybox calls it. One syncfs(2) is much
 * faster than one fsync(2) for each file.
 *
 * @param directory of the file system
 * @returns why that program did not work; undefined if it did
 * @throws `NetimageError` `interrupted` if the signal ended it
 */
export async function syncDisk(
  directory: string,
  signal?: AbortSignal,
): Promise<string | undefined> {
  try {
    const request = { hint: 'Install coreutils.', ...(signal && { signal }) }
    const { status, stderr } = await runProgram('sync', ['-f', directory], request)
    return status === 0 ? undefined : stderr.trim() || `sync ended with ${status}`
  } catch (error) {
    if (error instanceof NetimageError && error.code !== 'interrupted') return messageOf(error)
    throw error
  }
}
