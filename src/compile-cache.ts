/**
 * Lets Node keep its compiled code. Without that, compiling takes half of a short command's time.
 *
 * Node runs the code in its cache and checks neither the owner nor the mode of the files. Its
 * default is a directory below /tmp with a predictable name: another user could make that directory
 * first, with code that we would run. So we only use a directory to which nobody else can write.
 */
import { enableCompileCache } from 'node:module'
import { join } from 'node:path'

import { homeFor } from './home.ts'
import { privateDirectory } from './private-directory.ts'

export function keepCompiledCode(): void {
  // If this variable is set, Node already uses the directory that it names.
  if (process.env['NODE_COMPILE_CACHE']) return
  const home = homeFor('XDG_CACHE_HOME')
  const directory =
    home === undefined ? undefined : privateDirectory(join(home, 'netimage', 'compile'))
  if (directory !== undefined) enableCompileCache(directory)
}
