/** Whether a generation can still boot: the site keeps only the images that machines need. */
import { lstatSync } from 'node:fs'
import { join } from 'node:path'

import { NetimageError } from '../errors.ts'
import { sitePlaces } from '../image/site-places.ts'
import type { Generation, Life } from '../site/life/life.ts'
import { publishedOf } from '../site/publish/published.ts'

/** @throws `NetimageError` `bad-generation` if its image or its boot files are gone */
export function mustBeBootable(state: string, life: Life, generation: Generation): void {
  const { machine } = life
  if (isBootable(state, machine, generation)) return
  const { number, image } = generation
  const others = life.generations
    .filter((each) => each.verdict === 'good' && isBootable(state, machine, each))
    .map((each) => each.number)
  throw new NetimageError(
    'bad-generation',
    `generation ${number} of ${machine} cannot boot: the site does not have its image ${image} or its boot files any more`,
    {
      details: { actual: number },
      hint:
        others.length === 0
          ? `Add an image, and assign it: netimage site add, netimage site assign ${machine} IMAGE.`
          : `These good generations can boot: ${others.join(', ')}. Go back to one: netimage site rollback ${machine} --to NUMBER.`,
    },
  )
}

function isBootable(state: string, machine: string, { image, published }: Generation): boolean {
  const places = [join(sitePlaces(state).images, image)]
  if (published !== undefined) places.push(join(publishedOf(state, machine), published))
  // Not `existsSync`: it ignores the capabilities of a service that may read everything.
  return places.every((place) => lstatSync(place, { throwIfNoEntry: false }) !== undefined)
}
