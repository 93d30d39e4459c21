/** Whether a generation can still boot: the site keeps only the images that machines need. */
import { lstatSync } from 'node:fs'
import { join } from 'node:path'

import { NetimageError } from '../errors.ts'
import { sitePlaces } from '../image/site-places.ts'
import type { Generation, Life } from '../site/life/life.ts'
import { publishedOf } from '../site/publish/published.ts'

/** @throws `NetimageError` `bad-generation` if an image that it needs or its boot files are gone */
export function mustBeBootable(state: string, life: Life, generation: Generation): void {
  const { machine } = life
  if (isBootable(state, machine, generation)) return
  const { number } = generation
  const image = missingImage(state, generation)
  const gone = image === undefined ? 'its boot files' : `the image ${image}, which it needs,`
  const others = life.generations
    .filter((each) => each.verdict === 'good' && isBootable(state, machine, each))
    .map((each) => each.number)
  throw new NetimageError(
    'bad-generation',
    `generation ${number} of ${machine} cannot boot: the site does not have ${gone} any more`,
    {
      details: { actual: number },
      hint:
        others.length === 0
          ? `Add an image, and assign it: netimage site add, netimage site assign ${machine} IMAGE.`
          : `These good generations can boot: ${others.join(', ')}. Go back to one: netimage site rollback ${machine} --to NUMBER.`,
    },
  )
}

/** A system that the machine built can refer to the store paths of all images that it saw then. */
function missingImage(state: string, { image, keptImages = [] }: Generation): string | undefined {
  return [image, ...keptImages].find((id) => !isThere(join(sitePlaces(state).images, id)))
}

function isBootable(state: string, machine: string, generation: Generation): boolean {
  const { published } = generation
  if (missingImage(state, generation) !== undefined) return false
  return published === undefined || isThere(join(publishedOf(state, machine), published))
}

/** Not `existsSync`: it ignores the capabilities of a service that may read everything. */
function isThere(place: string): boolean {
  return lstatSync(place, { throwIfNoEntry: false }) !== undefined
}
