/**
 * Lets a process end together with this one, even if this one is killed while the other one is busy. Linux
 * does this for a process that asks for it (PR_SET_PDEATHSIG in prctl(2)). A Node program cannot ask. But
 * setpriv(1) of util-linux can, and then becomes the program.
 */
import { spawnSync, type ForkOptions } from 'node:child_process'

import { errnoOf } from '../../errors.ts'

const setpriv = 'setpriv'
const flags = ['--pdeathsig', 'KILL', '--']
/** There is no such program, or it is not for this computer. */
const absent = new Set(['ENOENT', 'EACCES', 'ENOEXEC'])

/**
 * @param execArgv the arguments for Node
 * @returns options for `fork`. On a computer without such a program, the other process ends once it is done
 * @throws if no program can be started at all now, for lack of memory for example
 */
export function endTogether(
  execArgv: readonly string[],
): Pick<ForkOptions, 'execPath' | 'execArgv'> {
  // Other programs of this name do not know the flag.
  const { status, error } = spawnSync(setpriv, [...flags, 'true'], { stdio: 'ignore' })
  if (error && !absent.has(errnoOf(error) ?? '')) throw error
  if (status !== 0) return { execArgv: [...execArgv] }
  return { execPath: setpriv, execArgv: [...flags, process.execPath, ...execArgv] }
}
