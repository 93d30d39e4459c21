/**
 * Lets Node keep what it compiles, which is half of a short command's time.
 *
 * Node runs what it finds in its cache and checks neither the owner nor the mode. Its default is a
 * directory below /tmp with a name that everybody can foretell: whoever makes it first decides what
 * other users run. So ours is one to which nobody else can write, or there is none.
 */
import { enableCompileCache } from 'node:module'
import { join } from 'node:path'

import { homeFor } from './home.ts'
import { privateDirectory } from './private-directory.ts'

export function keepCompiledCode(): void {
  // A person who sets this variable has chosen a directory, which Node uses already.
  if (process.env['NODE_COMPILE_CACHE']) return
  const home = homeFor('XDG_CACHE_HOME')
  const directory =
    home === undefined ? undefined : privateDirectory(join(home, 'netimage', 'compile'))
  if (directory !== undefined) enableCompileCache(directory)
}
