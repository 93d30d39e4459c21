/** A place in a site for an image that is built only to be added. */
import { join } from 'node:path'

import { silentProgress } from '../../progress.ts'
import { makeScratch, whileChanging, type Watching } from './changing.ts'

/**
 * The image is on the file system of the site, so no store path is copied when the image is added.
 *
 * @param build builds the image at the path that it gets
 * @param use the image is removed when this has ended
 */
export async function buildInSite<Built, Result>(
  state: string,
  watching: Watching,
  build: (output: string) => Promise<Built>,
  use: (built: Built) => Promise<Result>,
): Promise<Result> {
  const { progress = silentProgress } = watching
  const scratch = await whileChanging(state, watching, (places) =>
    makeScratch(places, (message) => progress.warn(message)),
  )
  try {
    return await use(await build(join(scratch.directory, 'image')))
  } finally {
    scratch.remove()
  }
}
