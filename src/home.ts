/** The directories of a user's programs: https://specifications.freedesktop.org/basedir-spec/ */
import { homedir } from 'node:os'
import { join } from 'node:path'

import { errnoOf } from './errors.ts'

const belowHome = { XDG_CACHE_HOME: '.cache', XDG_STATE_HOME: '.local/state' } as const

/** @returns undefined if neither the environment nor the user database names a home */
export function homeFor(
  variable: keyof typeof belowHome,
  env: NodeJS.ProcessEnv = process.env,
): string | undefined {
  const named = env[variable]
  if (named) return named
  const home = homeDirectory()
  return home === undefined ? undefined : join(home, belowHome[variable])
}

/** @returns undefined if this machine knows no home directory of the user */
export function homeDirectory(): string | undefined {
  try {
    return homedir() || undefined
  } catch (error) {
    // Node throws if HOME is not set and the user database has no entry for the user.
    if (errnoOf(error) === undefined) throw error
    return undefined
  }
}
