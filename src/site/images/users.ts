/** Which machines use the images of a site. */
import { NetimageError } from '../../errors.ts'
import { readRecord } from '../../roots/record.ts'
import { listLayers } from '../../roots/stored-layer.ts'
import { openSiteToRead } from '../database.ts'
import { neededImages } from '../life/life.ts'

/**
 * @returns for each id of an image: the machines that have a layer over the image, or that keep a
 *   generation which needs the image
 */
export function machinesByImage(state: string): Map<string, string[]> {
  const machines = new Map<string, Set<string>>()
  const uses = (machine: string, id: string) =>
    machines.set(id, (machines.get(id) ?? new Set()).add(machine))
  for (const { machine, directory } of listLayers(state)) {
    const record = readRecordIfWhole(directory)
    // The next binding may need files of the images of this one.
    const images = record ? [record.image, ...(record.keptImages ?? [])] : []
    for (const { identity } of images) uses(machine, identity)
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
    if (error instanceof NetimageError) return undefined
    throw error
  }
}
