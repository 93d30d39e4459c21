/** What the file of a site means by the system of a group. */
import { resolve } from 'node:path'

/**
 * Only what has a slash or a `#` can be a path or a flake reference. Any other word is an image of the
 * site, so that a directory that somebody makes never changes what the word means.
 */
export type SystemName = { ofSite: string } | { named: string }

/** @param directory of the file: relative paths begin there, so that they mean the same everywhere */
export function readSystemName(system: string, directory: string): SystemName {
  const hash = system.indexOf('#')
  if (hash >= 0) {
    const [flake, fragment] = [system.slice(0, hash), system.slice(hash)]
    return { named: /^(\.|\/|$)/.test(flake) ? resolve(directory, flake) + fragment : system }
  }
  const isPath = system.includes('/') || system === '.' || system === '..'
  if (isPath) return { named: resolve(directory, system) }
  return { ofSite: system }
}
