/** The images that a layer is bound to, and how they are written on the disk. */
import * as v from 'valibot'

/** The image that a layer is bound to, and where it can be found again. */
export interface BoundImage {
  /** Absolute. */
  directory: string
  /** Of its root directory. */
  name: string
  toplevel: string
  /** The hash of its manifest. */
  id: string
}

/** A further image whose store paths a layer shows. */
export type KeptImage = Omit<BoundImage, 'toplevel'>

/** On the disk, the id has the name that it had in earlier versions. */
export function toDisk<T extends { id: string }>({ id, ...image }: T) {
  return { ...image, identity: id }
}

function fromDisk<T extends { identity: string }>({ identity, ...image }: T) {
  return { ...image, id: identity }
}

const onDisk = { directory: v.string(), name: v.string(), identity: v.string() }

export const boundImageSchema = v.pipe(
  v.object({ ...onDisk, toplevel: v.string() }),
  v.transform(fromDisk),
)
export const keptImagesSchema = v.array(v.pipe(v.object(onDisk), v.transform(fromDisk)))
