/** Follows links among the files of an initrd, as the kernel does that starts its `/init`. */
import { posix } from 'node:path'

/** Targets of symlinks, by absolute paths without links in their last part. */
export type Symlinks = ReadonlyMap<string, string>

const maxLinks = 40

/** Where `path` leads; undefined where its links lead in a circle. */
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
