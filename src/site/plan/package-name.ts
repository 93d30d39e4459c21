/** The package of a store path, and its version. */
import { nameOf, type StorePath } from '../../nix/store-path.ts'

export interface PackageName {
  name: string
  /** Empty if the name of the store path has none. */
  version: string
}

/**
 * As `builtins.parseDrvName` of Nix: the version begins after the first dash that no letter follows. The
 * outputs of a package (`-bin`, `-man`) are parts of one package, so they are left out after a version.
 */
export function packageOf(path: StorePath): PackageName {
  const whole = nameOf(path)
  const { name, version } = splitName(whole)
  return { name, version: version.replace(/(-([a-z]+|lib32|lib64))+$/, '') }
}

/** https://nix.dev/manual/nix/latest/language/builtins#builtins-parseDrvName */
export function splitName(whole: string): PackageName {
  const dash = whole.search(/-[^a-zA-Z]/)
  if (dash < 0) return { name: whole, version: '' }
  return { name: whole.slice(0, dash), version: whole.slice(dash + 1) }
}
