// Whether something needs little memory is not measured here: it runs in a process that does not get
// more, and it would end that process if it asked for more.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { findProgram } from '../e2e/support/packages.ts'

/** Node itself reserves almost 500 of it. */
const megabytes = 1024
/** Of that, for objects of JavaScript. */
const heapMegabytes = 48

/**
 * Runs a module of TypeScript in a process that may have little memory of its own.
 *
 * @returns what it printed
 * @throws an error with what it complained of, if it does not end with status 0
 */
export async function runInLittleMemory(module: string, args: string[] = []): Promise<string> {
  const limit = `--data=${megabytes << 20}`
  const heap = `--max-old-space-size=${heapMegabytes}`
  const command = [limit, process.execPath, heap, module, ...args]
  const { stdout } = await promisify(execFile)(findProgram('prlimit'), command)
  return stdout
}
