/** The images that are named to the server: machines boot them if nobody chose anything for them. */
import { resolve } from 'node:path'

import { NetimageError } from '../errors.ts'
import { readImage } from '../image/manifest.ts'
import type { SettledOptions } from '../image/options.ts'
import { parseNfsRoot } from '../nixos/nfs-root.ts'
import { candidateOf } from '../site/candidate.ts'
import { addImage } from '../site/images/add-image.ts'
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

/**
 * Refuses an image whose root machines would mount in another way than this server serves roots.
 *
 * @param image its name in the error
 * @throws `NetimageError` `bad-option`
 */
export function mustBeServable(options: SettledOptions, image: string): void {
  const { version } = parseNfsRoot(options.nfsRoot)
  if (version === undefined || version.startsWith('3')) return
  throw new NetimageError(
    'bad-option',
    `machines would mount the root of ${image} with NFS version ${version}, but \`netimage serve\` has only version 3`,
    {
      hint: 'Build the image with version 3 in its nfsRoot, as in 10.0.0.5:/srv/nixos,v3. Or serve its root with another NFS server: see docs/servers.md.',
    },
  )
}
