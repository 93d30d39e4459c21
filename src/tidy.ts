/**
 * Clean-up that is not what a person asked for: of what was replaced, and of what a build that was
 * killed has left. That it fails, as it does with the files of another user, makes nothing that was
 * done undone, and keeps nobody from going on.
 */
import { errnoOf, messageOf } from './errors.ts'
import { removeTree } from './remove-tree.ts'

export type Warn = (message: string) => void

/**
 * @param warn told what stays, and how the person can remove it
 * @param remove takes it away, or out of the way
 * @returns whether it is gone
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

/** For a shell: a removal that succeeds whoever owns the files. */
export function removalCommand(path: string): string {
  const quoted = /^[\w./@%+,:=-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`
  return `sudo rm -rf ${quoted}`
}
