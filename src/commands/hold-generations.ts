/** Keeps what a machine may go back to in the site, while a person chooses what it boots. */
import { join } from 'node:path'

import { NetimageError } from '../errors.ts'
import { holdImage } from '../image/image-lock.ts'
import { sitePlaces } from '../image/site-places.ts'
import { openSiteDatabase } from '../site/database.ts'
import { machineIn } from './site-machine.ts'

/**
 * Holds the images of all generations of the machine that the site has. Otherwise a garbage collection
 * could decide to remove an image before the choice, and remove it afterwards.
 *
 * @param named a hardware or IP address in any form, or a name
 * @throws `NetimageError` `unknown-machine`; `in-use` if another command changes one of the images
 */
export async function holdGenerations(state: string, named: string): Promise<DisposableStack> {
  const held = new DisposableStack()
  try {
    for (const id of imagesOf(state, named)) {
      const image = await holdImage(join(sitePlaces(state).images, id)).catch(orGone)
      if (image) held.defer(() => image.release())
    }
    return held
  } catch (error) {
    held.dispose()
    throw error
  }
}

function imagesOf(state: string, named: string): Set<string> {
  const site = openSiteDatabase(state)
  try {
    const { generations } = site.read.lifeOf(machineIn(site.read.names(), named))
    return new Set(generations.flatMap(({ image, keptImages = [] }) => [image, ...keptImages]))
  } finally {
    site.close()
  }
}

function orGone(error: unknown): undefined {
  if (!(error instanceof NetimageError)) throw error
  if (error.code === 'not-an-image') return undefined
  if (error.code !== 'in-use') throw error
  throw new NetimageError('in-use', 'another command adds or removes images of the site', {
    cause: error,
    details: error.details,
    hint: 'Wait for that command to end, then run this again.',
  })
}
