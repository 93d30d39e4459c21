/** The optional addon of the folder `native/`. Without it, the same is done in TypeScript. */
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

/** For a package, and for a source tree in which scripts/build-native.sh was called. */
export const builtAddon = fileURLToPath(
  new URL(`../native/${process.platform}-${process.arch}.node`, import.meta.url),
)

/** @returns undefined if there is no addon for this computer, or if it does not fit to the C library */
export function loadAddon(file: string): unknown {
  try {
    const loaded: unknown = createRequire(import.meta.url)(file)
    return loaded
  } catch {
    return undefined
  }
}

export function hasFunctions(loaded: unknown, names: readonly string[]): boolean {
  return names.every((name) => typeof Object(loaded)[name] === 'function')
}
