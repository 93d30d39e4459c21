/** Finds machines that last used an image that is not served now. */
import { NetimageError } from '../errors.ts'
import { readRecord } from '../roots/record.ts'
import { listLayers } from '../roots/stored-layer.ts'
import type { ServedImage } from './served-image.ts'

/**
 * If such a machine still runs, it has lost its root and must boot again. We cannot see whether the
 * machine runs. Another build of an image counts as another image.
 *
 * @returns the names of the machines whose last layer is over another image
 */
export function machinesElsewhere(state: string, images: readonly ServedImage[]): string[] {
  const served = new Set(images.map(({ index }) => index.identity))
  const last = new Map<string, { identity: string; lastUsed: number }>()
  for (const { machine, directory } of listLayers(state)) {
    const record = readOrNothing(directory)
    if (!record || record.lastUsed < (last.get(machine)?.lastUsed ?? 0)) continue
    last.set(machine, { identity: record.image.identity, lastUsed: record.lastUsed })
  }
  return [...last].flatMap(([machine, { identity }]) => (served.has(identity) ? [] : [machine]))
}

/** A broken record is no error here. It is reported when its machine asks for the layer. */
function readOrNothing(directory: string): ReturnType<typeof readRecord> {
  try {
    return readRecord(directory)
  } catch (error) {
    if (error instanceof NetimageError) return undefined
    throw error
  }
}
