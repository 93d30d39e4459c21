// Where Node keeps compiled code. Tests start hundreds of processes and threads, which need not all compile the
// same modules.
//
//     node test/support/compile-cache.ts    prints the directory for the processes of the tests

import { chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { ordinaryUser } from './namespace.ts'
import { repository } from './netimage.ts'

const ours = join(repository, 'node_modules/.cache/compile')
const ofOrdinaryUser = join(repository, 'node_modules/.cache/compile-of-ordinary-user')

/** Lets all processes that are started from now on use the directory. */
export function useCompileCache(): void {
  process.env['NODE_COMPILE_CACHE'] ??= ours
}

/**
 * A command prefix for programs of the ordinary user. Their directory is another one, because root must not
 * run code that somebody else can write.
 */
export function withOwnCompileCache(): string[] {
  try {
    mkdirSync(ofOrdinaryUser, { recursive: true, mode: 0o755 })
    chownSync(ofOrdinaryUser, ordinaryUser.uid, ordinaryUser.gid)
  } catch {
    // Then the programs compile everything, which only takes longer.
  }
  return ['env', `NODE_COMPILE_CACHE=${ofOrdinaryUser}`]
}

if (import.meta.main) process.stdout.write(ours)
