/**
 * Removes leftovers: files that were replaced, and the remains of killed builds. If that fails, for
 * example because the files belong to another user, we warn and go on.
 */
import { errnoOf, messageOf } from './errors.ts'
import { removeTree } from './remove-tree.ts'

export type Warn = (message: string) => void

/**
 * @param warn is told which path stays, and how the person can remove it
 * @param remove removes the path, or moves it away
 * @returns whether the path is gone
 */
export function tidy(
  path: string,
  warn: Warn,
  remove: (path: string) => void = removeTree,
): boolean {
  try {
    remove(path)
    return true
  } catch (error) {
    if (errnoOf(error) === undefined) throw error
    warn(`could not remove ${path}: ${messageOf(error)}. Remove it with: ${removalCommand(path)}`)
    return false
  }
}

/** A shell command that removes the path, whoever owns the files. */
export function removalCommand(path: string): string {
  const quoted = /^[\w./@%+,:=-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`
  return `sudo rm -rf ${quoted}`
}
