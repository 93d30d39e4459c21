// Linux as a program (User Mode Linux), without an emulator: the fastest machine.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { cacheDirectory } from './cache.ts'
import { findProgram } from './packages.ts'

/**
 * The beginning of a command, before the arguments of the kernel.
 *
 * @param kernel default: that of Debian
 */
export function userModeLinuxCommand(kernel = findProgram('linux.uml')): string[] {
  return ['env', `LD_PRELOAD=${buildRegisters()}`, kernel]
}

/** user-mode-linux.c tells why this is needed. */
function buildRegisters(): string {
  const source = join(import.meta.dirname, 'user-mode-linux.c')
  const digest = createHash('sha256').update(readFileSync(source)).digest('hex')
  const directory = cacheDirectory('user-mode-linux')
  const library = join(directory, `${digest}.so`)
  if (existsSync(library)) return library
  // Several tests may build it at the same time.
  const unfinished = mkdtempSync(join(directory, 'unfinished-'))
  const file = join(unfinished, 'library.so')
  const flags = ['-std=c17', '-O2', '-fPIC', '-shared', '-Wall', '-Wextra', '-Werror']
  execFileSync(findProgram('gcc'), [...flags, '-o', file, source])
  renameSync(file, library)
  rmSync(unfinished, { recursive: true })
  return library
}
