/** Kernel modules by their names, however their files are compressed. */
import { posix } from 'node:path'

import { listStoreDirectory, readStoreText, type TreeOf } from './store-files.ts'

const modulePattern = /\.ko(?:\.(?:xz|zst|gz))?$/

/** The module's name as `lsmod` shows it; undefined if the file is no module. */
export function moduleName(file: string): string | undefined {
  if (!modulePattern.test(file)) return undefined
  return posix.basename(file).replace(modulePattern, '').replaceAll('-', '_')
}

/** Modules by name, with their files: `kernel/drivers/net/…`. */
export type KernelModules = ReadonlyMap<string, string>

/** @param text the content of `modules.builtin`: one file a line */
export function parseBuiltinModules(text: string): KernelModules {
  const modules = new Map<string, string>()
  for (const line of text.split('\n')) {
    const name = moduleName(line.trim())
    if (name !== undefined) modules.set(name, line.trim())
  }
  return modules
}

/** The modules in a toplevel's kernel itself; undefined if there is no `modules.builtin`. */
export async function readBuiltinModules(
  treeOf: TreeOf,
  toplevel: string,
): Promise<KernelModules | undefined> {
  const directory = `${toplevel}/kernel-modules/lib/modules`
  for (const version of await listStoreDirectory(treeOf, directory)) {
    const text = await readStoreText(treeOf, `${directory}/${version}/modules.builtin`)
    if (text !== undefined) return parseBuiltinModules(text)
  }
  return undefined
}
