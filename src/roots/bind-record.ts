/** What a layer knows of the images that it is bound to: the table `binding` of its database. */
import * as v from 'valibot'

import { keptImagesSchema, toDisk, type BoundImage, type KeptImage } from './bound-image.ts'
import type { LayerDatabase } from './database.ts'
import { keptSchema, type KeptFiles } from './kept-files.ts'

/** What the layer is bound to. */
export interface Bound {
  /** The identifier of the boot for which it was bound. */
  boot: string
  image: BoundImage
  keptImages: readonly KeptImage[]
  /** See `storePathsHash`. */
  paths: string
}

/** On the disk, `id` is the identifier of the boot, and `identity` is the id of the image. */
const boundNames = ['id', 'directory', 'name', 'toplevel', 'identity', 'paths'] as const
type Name = (typeof boundNames)[number] | 'kept' | 'keptImages'

/** Not in `meta`: if a page with this is damaged, the format of the file must still be known. */
function read(database: Pick<LayerDatabase, 'select'>, name: Name): string | undefined {
  const value = database.select('SELECT value FROM binding WHERE name = ?', name)[0]?.['value']
  return typeof value === 'string' ? value : undefined
}

function write(database: LayerDatabase, name: Name, value: string): void {
  database.run('INSERT OR REPLACE INTO binding VALUES (?, ?)', name, value)
}

/** @returns undefined if the layer does not know its image */
export function readBound(database: Pick<LayerDatabase, 'select'>): Bound | undefined {
  const [boot, directory, name, toplevel, id, paths] = boundNames.map((each) =>
    read(database, each),
  )
  if (boot === undefined || directory === undefined || name === undefined) return undefined
  if (toplevel === undefined || id === undefined || paths === undefined) return undefined
  const parsed = v.safeParse(
    v.pipe(v.string(), v.parseJson(), keptImagesSchema),
    read(database, 'keptImages'),
  )
  const keptImages = parsed.success ? parsed.output : []
  return { boot, image: { directory, name, toplevel, id }, keptImages, paths }
}

/** To be called in a transaction. */
export function writeBound(
  database: LayerDatabase,
  { boot, image, keptImages, paths }: Bound,
): void {
  const values = { ...toDisk(image), id: boot, paths }
  for (const name of boundNames) write(database, name, values[name])
  write(database, 'keptImages', JSON.stringify(keptImages.map(toDisk)))
}

/**
 * What stayed when the files outside the store paths last changed although the image brought something
 * else, and which names were lost since then.
 */
export function readKept(database: Pick<LayerDatabase, 'select'>): KeptFiles {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), keptSchema), read(database, 'kept'))
  return parsed.success ? parsed.output : { files: [], more: 0 }
}

/** To be called in a transaction. */
export function writeKept(database: LayerDatabase, kept: KeptFiles): void {
  write(database, 'kept', JSON.stringify(kept))
}
