/** Machines whose files another image than those that are served has. */
import { NetimageError } from '../errors.ts'
import { readRecord } from '../roots/record.ts'
import { listLayers } from '../roots/store.ts'
import type { ServedImage } from './served-image.ts'

/**
 * A machine that still runs from another image, or from another build of one, has lost its root
 * once these are served in its place: it must boot again. Whether it runs nobody can tell.
 *
 * @returns the names of the machines that wrote over another image last
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

/** One that is broken is told of when its machine asks for it. */
function readOrNothing(directory: string): ReturnType<typeof readRecord> {
  try {
    return readRecord(directory)
  } catch (error) {
    if (error instanceof NetimageError) return undefined
    throw error
  }
}
