/**
 * Removes the files of a layer that say something of one boot only. So a file with such a name was
 * written in the boot in which it is read: this needs no clock and no trust in the times of files.
 */
import { namesNow } from './bind-names.ts'
import type { BindWork } from './bind-work.ts'
import type { Steps } from './steps.ts'
import { removeName } from './release-node.ts'

/** The names on the way from the root to a file. */
export type BootFilePath = readonly [...directories: string[], file: string]

/**
 * To be called in a transaction, when nothing of a store path has a name elsewhere any more. Follows
 * no links, and removes no directories.
 *
 * @returns whether a file that an image brings outside the store paths has lost a name
 */
export function* removeBootFiles(
  work: Pick<BindWork, 'database' | 'now'>,
  paths: readonly BootFilePath[],
): Steps<boolean> {
  const { childOf, nodeAt, rowOf } = namesNow(work)

  function* remove(path: BootFilePath): Steps<boolean> {
    const names = path.map((name) => Buffer.from(name))
    const file = names.pop()
    const directory = nodeAt(names)
    const node = file && directory && childOf(directory, file)
    if (!file || !directory || !node) return false
    if (rowOf(node)?.kind === 'directory') return false
    return yield* removeName(work, directory, file)
  }

  let isCut = false
  for (const path of paths) isCut = (yield* remove(path)) || isCut
  return isCut
}
