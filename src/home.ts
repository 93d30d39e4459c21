/** The directories of a user's programs: https://specifications.freedesktop.org/basedir-spec/ */
import { homedir } from 'node:os'
import { join } from 'node:path'

import { errnoOf, NetimageError } from './errors.ts'

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

/**
 * The directory that belongs to netimage below such a directory.
 *
 * @param flag the flag that names another directory
 * @throws `NetimageError` `bad-usage` if there is no home
 */
export function ownDirectory(
  variable: keyof typeof belowHome,
  flag: string,
  env: NodeJS.ProcessEnv,
): string {
  const home = homeFor(variable, env)
  if (home !== undefined) return join(home, 'netimage')
  const message = `there is no home directory, and ${flag} names no other directory`
  throw new NetimageError('bad-usage', message, {
    hint: `Name a directory with ${flag}, or set HOME or ${variable}.`,
    details: { field: flag },
  })
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
