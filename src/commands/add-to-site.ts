/** Adds an image or a system that a person names to a site, for the commands that do so. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

import type { CheckFinding } from '../check/check-system.ts'
import { NetimageError } from '../errors.ts'
import { manifestName } from '../image/layout.ts'
import type { AddedImage } from '../site/images/add-image.ts'
import { buildByFlags, type BuildFlags } from './build.ts'
import { openStateToChange, type OpenedState } from './open-state.ts'
import type { Surroundings } from './run.ts'

/** The directory of an image that build made. */
export interface ToAdd {
  directory: string
}

/** A system, as for build. */
export interface ToBuild {
  system: string
}

/**
 * To be called before root becomes the server's user, who may not be able to read the image.
 *
 * @param named the directory of an image, or a system as for build
 */
export function whatToAdd(named: string): ToAdd | ToBuild {
  const directory = resolve(named)
  return existsSync(join(directory, manifestName)) ? { directory } : { system: named }
}

export interface OpenedToAdd extends OpenedState {
  /** Whether this is another user now: the server's user, if this was root. */
  isOther: boolean
}

/** Makes the state directory if there is none. @param named the state directory that the person named */
export async function openStateToAdd(named: string | undefined): Promise<OpenedToAdd> {
  const user = process.geteuid?.()
  const opened = await openStateToChange(named)
  return { ...opened, isOther: user !== process.geteuid?.() }
}

/** @returns the image, which the caller releases, and what `check` finds in it if it was built */
export async function addToSite(
  { state, person, isOther }: OpenedToAdd,
  what: ToAdd | ToBuild,
  flags: BuildFlags & { repair?: boolean | undefined },
  around: Surroundings,
): Promise<AddedImage & { findings?: readonly CheckFinding[] }> {
  const { addImage } = await import('../site/images/add-image.ts')
  const settings = { ...around, repair: flags.repair, who: person }
  if ('directory' in what) return await addImage(state, what.directory, settings)
  if (isOther && flags.pool === undefined) throw cannotBuild(what.system, state)
  const { buildInSite } = await import('../site/images/build-in-site.ts')
  return await buildInSite(
    state,
    around,
    (output) => buildByFlags(what.system, flags, { output }, around),
    async ({ image, findings }) => ({ ...(await addImage(state, image, settings)), findings }),
  )
}

/** The server's user has no pool, no home for Nix, and cannot read what belongs to root. */
function cannotBuild(named: string, state: string): NetimageError {
  return new NetimageError(
    'not-allowed',
    `root cannot build ${named} in ${state}, the site of another user`,
    {
      details: { file: state },
      hint: `Build the image in a directory that the user of the server can read, and add it: netimage build ${named} --output DIR, then netimage site add DIR`,
    },
  )
}
