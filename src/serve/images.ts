/** The images that are named to the server: machines boot them if nobody chose anything for them. */
import { resolve } from 'node:path'

import { readImage } from '../image/manifest.ts'
import { candidateOf } from '../site/candidate.ts'
import { addImage } from '../site/images/add-image.ts'
import { mustBeServable } from '../site/images/servable.ts'
import type { DefaultImage } from './defaults.ts'
import type { OpenSystems } from './open-systems.ts'
import type { ServeRequest } from './request.ts'

/**
 * Adds the images to the site, so that they do not change while machines run from them.
 *
 * @throws `NetimageError` if an image cannot be added or cannot be served
 */
export async function addDefaults(
  { state, images, progress }: Pick<ServeRequest, 'state' | 'images' | 'progress'>,
  systems: OpenSystems,
  signal: AbortSignal | undefined,
): Promise<DefaultImage[]> {
  for (const directory of images) {
    // Before anything is copied.
    const { options } = await readImage(resolve(directory), directory)
    mustBeServable(options, directory)
  }
  const defaults: DefaultImage[] = []
  for (const directory of images) {
    const { image } = await addImage(state, directory, { progress, signal })
    try {
      const open = await systems.openImage(image.id)
      defaults.push({ candidate: await candidateOf(image), open })
    } finally {
      image.release()
    }
  }
  return defaults
}
