/**
 * The snapshots that the server takes itself: of the state of a machine before it first boots another
 * generation, and of the state that a machine leaves when it goes back to such a snapshot.
 */
import { NetimageError } from '../errors.ts'
import { attemptOf } from './boot-id.ts'
import { openFloor } from './floor.ts'
import { readRecord } from './record.ts'
import {
  copyFromSnapshot,
  copyToSnapshot,
  giveUpSnapshot,
  hasSnapshot,
  lastBindingOf,
  listNames,
} from './snapshots.ts'
import { withLayer } from './store.ts'
import type { StoredLayer } from './stored-layer.ts'

/** The state before the machine first booted the generation with this number. */
export function nameBefore(generation: number): string {
  return `before-generation-${generation}`
}

/** The state that a machine left by going back. @param attempt its last attempt in that state */
export function nameLeft(attempt: number): string {
  return `left-after-attempt-${attempt}`
}

const ofServer = /^(?:before-generation|left-after-attempt)-/
const beforeGeneration = /^before-generation-([1-9]\d*)$/

/** @throws `NetimageError` `bad-usage` if only the server gives such a name */
export function mustBeFreeName(name: string): void {
  if (!ofServer.test(name)) return
  throw new NetimageError('bad-usage', `the server gives names such as '${name}' to snapshots`, {
    details: { field: 'snapshot', actual: name },
    hint: 'Give the snapshot another name.',
  })
}

/** The numbers of the generations from before which the layer has snapshots. */
export function generationsBefore(layer: StoredLayer): number[] {
  return listNames(layer).flatMap((name) => {
    const number = beforeGeneration.exec(name)?.[1]
    return number === undefined ? [] : [Number(number)]
  })
}

export type Taken = 'taken' | 'not needed' | 'cannot clone'

/**
 * Takes a snapshot of the state before a generation, unless the layer has it, or was opened in an
 * attempt to boot the generation already. Afterwards the snapshot is whole and on the disk.
 *
 * @param attempt the first attempt to boot the generation
 * @throws `NetimageError`, or the reason of the signal
 */
export async function keepStateBefore(
  layer: StoredLayer,
  { generation, attempt }: { generation: number; attempt: number },
  signal?: AbortSignal,
): Promise<Taken> {
  const name = nameBefore(generation)
  if (readRecord(layer.directory) === undefined) return 'not needed'
  return await withLayer(layer, async () => {
    if (hasSnapshot(layer, name)) return 'not needed'
    const last = lastBindingOf(layer)
    if (!last) return 'not needed'
    // Without an attempt, the layer was last opened before the site had one of this machine.
    if (last.boot !== undefined && attemptOf(last.boot) >= attempt) return 'not needed'
    const floor = openFloor(layer.directory)
    const isTaken = await copyToSnapshot(layer, name, { mustClone: true, floor, signal })
    return isTaken ? 'taken' : 'cannot clone'
  })
}

/**
 * Puts the layer back to the state before a generation. The present state becomes a snapshot first. If
 * this was cut off, it may be done again, as long as the layer was not opened meanwhile.
 *
 * @param left the name of the snapshot of the present state
 * @throws `NetimageError`, or the reason of the signal; nothing is lost then
 */
export async function putBack(
  layer: StoredLayer,
  generation: number,
  left: string,
  signal?: AbortSignal,
): Promise<void> {
  await withLayer(layer, async () => {
    const floor = openFloor(layer.directory)
    if (!hasSnapshot(layer, left)) await copyToSnapshot(layer, left, { floor, signal })
    await copyFromSnapshot(layer, nameBefore(generation), { floor, signal })
  })
}

/** @throws `NetimageError` */
export async function removeStatesBefore(
  layer: StoredLayer,
  generations: readonly number[],
): Promise<void> {
  await withLayer(layer, async () => {
    for (const generation of generations) {
      const name = nameBefore(generation)
      if (hasSnapshot(layer, name)) await giveUpSnapshot(layer, name)
    }
  })
}
