/** Which machines use the images of a site. */
import { NetimageError } from '../../errors.ts'
import { readRecord } from '../../roots/record.ts'
import { listLayers } from '../../roots/store.ts'

/** @returns for each id of an image: the machines that have a layer over the image */
export function machinesByImage(state: string): Map<string, string[]> {
  const machines = new Map<string, string[]>()
  for (const { machine, directory } of listLayers(state)) {
    const id = readRecordIfWhole(directory)?.image.identity
    if (id !== undefined) machines.set(id, [...(machines.get(id) ?? []), machine])
  }
  return machines
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
