/** Which machines use the images of a site. */
import { NetimageError } from '../../errors.ts'
import { readRecord } from '../../roots/record.ts'
import { imagesOfSnapshots } from '../../roots/snapshots.ts'
import { listLayers } from '../../roots/stored-layer.ts'
import { openSiteToRead } from '../database.ts'
import { neededImages } from '../life/life.ts'

/**
 * @returns for each id of an image: the machines that have a layer or a snapshot over the image, or
 *   that keep a generation which needs the image
 * @throws `NetimageError` if this cannot be read
 */
export function machinesByImage(state: string): Map<string, string[]> {
  const machines = new Map<string, Set<string>>()
  const uses = (machine: string, id: string) =>
    machines.set(id, (machines.get(id) ?? new Set()).add(machine))
  for (const layer of listLayers(state)) {
    const record = readRecordIfWhole(layer.directory)
    // The next binding may need files of the images of this one, or of those of a snapshot.
    for (const bound of [...(record ? [record] : []), ...imagesOfSnapshots(layer)]) {
      for (const { identity } of [bound.image, ...(bound.keptImages ?? [])]) {
        uses(layer.machine, identity)
      }
    }
  }
  const site = openSiteToRead(state)
  try {
    for (const life of site?.lives() ?? []) {
      for (const id of neededImages(life)) uses(life.machine, id)
    }
  } finally {
    site?.close()
  }
  return new Map([...machines].map(([id, names]) => [id, [...names]]))
}

/** A broken record is reported when its machine asks for the layer. */
function readRecordIfWhole(directory: string): ReturnType<typeof readRecord> {
  try {
    return readRecord(directory)
  } catch (error) {
    if (error instanceof NetimageError && error.code === 'bad-state') return undefined
    throw error
  }
}
