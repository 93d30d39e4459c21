/** The images that the groups of a site get. What the site does not have is added, and built first. */
import type { CheckFinding } from '../check/check-system.ts'
import { explained, NetimageError } from '../errors.ts'
import type { Problem } from '../site/desired/problem.ts'
import { readSystemName } from '../site/desired/system-name.ts'
import type { SiteImage } from '../site/images/site-image.ts'
import { addToSite, whatToAdd, type OpenedToAdd, type ToAdd, type ToBuild } from './add-to-site.ts'
import type { BuildFlags } from './build.ts'
import type { Surroundings } from './run.ts'

/** Where the image of a group comes from. */
export type Origin = ToAdd | ToBuild | { ofSite: string }

/**
 * To be called before root becomes the server's user.
 *
 * @param system as in the file
 * @param directory of the file
 */
export function originOf(system: string, directory: string): Origin {
  const read = readSystemName(system, directory)
  return 'named' in read ? whatToAdd(read.named) : read
}

export interface OriginOfGroup {
  group: string
  origin: Origin
}

/** Groups whose images the site should have, and does not. */
export async function missingImages(
  state: string,
  origins: readonly OriginOfGroup[],
): Promise<Problem[]> {
  const { chooseSiteImage } = await import('../site/images/choose-image.ts')
  return origins.flatMap(({ group, origin }): Problem[] => {
    if (!('ofSite' in origin)) return []
    try {
      chooseSiteImage(state, origin.ofSite)
      return []
    } catch (error) {
      if (!(error instanceof NetimageError)) throw error
      const hint = `${error.hint ?? ''} If you mean a directory, write ./${origin.ofSite}.`
      return [{ field: `group.${group}.system`, message: error.message, hint }]
    }
  })
}

export interface ImageOfGroup {
  image: SiteImage
  findings: readonly CheckFinding[]
}

/**
 * @param held lets go of the images at its end
 * @returns one for each origin, in their order
 */
export async function imagesOfGroups(
  site: OpenedToAdd,
  origins: readonly OriginOfGroup[],
  flags: BuildFlags,
  around: Surroundings,
  held: DisposableStack,
): Promise<ImageOfGroup[]> {
  const { checkSiteImage } = await import('../site/plan/check-image.ts')
  const { knownRules } = await import('../check/silence.ts')
  const silenced = knownRules(flags.silence ?? [], '--silence')
  const known = new Map<string, Promise<ImageOfGroup>>()

  async function obtain(origin: Origin): Promise<ImageOfGroup> {
    const { image, findings } = await openOrigin(site, origin, flags, around)
    held.defer(() => image.release())
    return { image, findings: findings ?? (await checkSiteImage(image, silenced)) }
  }

  const images: ImageOfGroup[] = []
  for (const { group, origin } of origins) {
    const key = JSON.stringify(origin)
    const image = known.get(key) ?? obtain(origin)
    known.set(key, image)
    images.push(await image.catch((error: unknown) => throwFor(group, error)))
  }
  return images
}

async function openOrigin(
  site: OpenedToAdd,
  origin: Origin,
  flags: BuildFlags,
  around: Surroundings,
): Promise<{ image: SiteImage; findings?: readonly CheckFinding[] }> {
  // The plan shows what was found, so the build need not print it.
  if (!('ofSite' in origin)) return await addToSite(site, origin, { ...flags, json: true }, around)
  const { chooseSiteImage } = await import('../site/images/choose-image.ts')
  const { openSiteImage } = await import('../site/images/site-image.ts')
  const { id } = chooseSiteImage(site.state, origin.ofSite)
  return { image: await openSiteImage(site.state, id) }
}

function throwFor(group: string, error: unknown): never {
  if (!(error instanceof NetimageError) || error.code === 'interrupted') throw error
  throw explained(error, `group.${group}.system: ${error.message}`, {})
}
