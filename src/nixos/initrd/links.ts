/** Follows links among the files of an initrd, like the kernel when it starts `/init`. */
import { posix } from 'node:path'

/** Targets of symlinks, by the absolute paths of the symlinks. */
export type Symlinks = ReadonlyMap<string, string>

const maxLinks = 40

/** The path that `path` leads to; undefined if its links form a circle. */
export function followSymlinks(symlinks: Symlinks, path: string): string | undefined {
  let links = 0
  const left = path.split('/').filter(Boolean)
  let reached = '/'
  for (let component = left.shift(); component !== undefined; component = left.shift()) {
    const next = posix.join(reached, component)
    const target = symlinks.get(next)
    if (target === undefined) {
      reached = next
      continue
    }
    if (++links > maxLinks) return undefined
    left.unshift(...target.split('/').filter(Boolean))
    if (target.startsWith('/')) reached = '/'
  }
  return reached
}
