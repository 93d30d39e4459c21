/** All of an image but its store paths: it is made in a scratch directory, and then gets its place. */
import { chmodSync, lstatSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { imageLayout } from '../../image/layout.ts'
import type { SitePlaces } from '../../image/site-places.ts'
import { syncFileSystem } from '../../image/sync.ts'
import type { Progress } from '../../progress.ts'
import { syncDirectory } from '../../sync-directory.ts'
import type { Scratch } from './changing.ts'
import { adviceWithoutSync } from './fill-store.ts'
import { replace } from './repair.ts'
import type { SourceImage } from './source.ts'

interface MakingRest {
  signal: AbortSignal
  progress: Progress
  /** Fills an empty directory with the boot tree and the files outside the store, and checks them. */
  fill: (image: string) => Promise<void>
}

/** @returns the directory, which is on the disk */
export async function makeRest(
  { directory }: Scratch,
  { manifestBytes, options }: Pick<SourceImage, 'manifestBytes' | 'options'>,
  { signal, progress, fill }: MakingRest,
): Promise<string> {
  const image = join(directory, 'image')
  mkdirSync(image)
  await fill(image)
  const layout = imageLayout(image, options.rootDirectoryName)
  mkdirSync(join(image, 'nix-support'))
  writeFileSync(layout.manifest, manifestBytes)
  chmodSync(layout.manifest, 0o444)
  writeFileSync(layout.lock, '')
  await syncFileSystem(image, signal, progress, adviceWithoutSync)
  signal.throwIfAborted()
  return image
}

/**
 * The image appears. Replaces what the site has. Only inside `whileChanging`, and only if the site has all
 * store paths of the image.
 *
 * @param made by `makeRest`
 * @param note adds the row to the log of the site
 */
export async function placeRest(
  made: string,
  id: string,
  { images }: SitePlaces,
  note: () => Promise<void>,
): Promise<void> {
  // No image is in the site that is not in its log.
  await note()
  const place = join(images, id)
  if (lstatSync(place, { throwIfNoEntry: false })) replace(images, place, made)
  else renameSync(made, place)
  syncDirectory(images)
}
