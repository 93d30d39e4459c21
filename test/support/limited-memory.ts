// To show that code needs little memory, run it in a process with a memory limit. The process ends
// if it needs more. Nothing is measured.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { findProgram } from './packages.ts'

/** A command prefix. Node itself reserves almost 500 MiB of it. */
export const littleMemory = [findProgram('prlimit'), `--data=${1 << 30}`]
/** The part of it for JavaScript objects. */
const heapMegabytes = 48

/**
 * Runs a TypeScript module in a process with little memory.
 *
 * @returns the process's output
 * @throws an error with the text from stderr, if the exit status is not 0
 */
export async function runInLittleMemory(module: string, args: string[] = []): Promise<string> {
  const heap = `--max-old-space-size=${heapMegabytes}`
  const [prlimit = '', ...limit] = littleMemory
  const command = [...limit, process.execPath, heap, module, ...args]
  const { stdout } = await promisify(execFile)(prlimit, command)
  return stdout
}
