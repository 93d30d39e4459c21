/** Finds the state with which a machine can go back to a generation. */
import { statSync } from 'node:fs'

import { NetimageError } from '../errors.ts'
import { generationsBefore, nameBefore, nameLeft } from '../roots/state-snapshots.ts'
import { hasSnapshot, snapshotOf } from '../roots/snapshots.ts'
import { layerOf, type StoredLayer } from '../roots/stored-layer.ts'
import type { Generation, Life } from '../site/life/life.ts'
import { triedAfter, wishState } from '../site/life/states.ts'
import { formatTime } from './format.ts'

export interface FoundState {
  /** The machine goes back to the state at its next start. */
  life: Life
  says: string
  json: { snapshot: string; leftAs: string }
}

/**
 * @param life of the machine, which boots the generation next
 * @throws `NetimageError` `path-not-found` if there is no snapshot of the state; `output-exists`
 */
export function findStateBefore(state: string, life: Life, { number }: Generation): FoundState {
  const layer = layerOf(state, life.machine)
  const taken = generationsBefore(layer)
  const before = triedAfter(life, number)?.number
  if (before === undefined || !taken.includes(before)) {
    throw noState(layer, number, before, taken)
  }
  const wished = wishState(life, { to: number, before })
  const [snapshot, leftAs] = [nameBefore(before), nameLeft(wished.stateBack.after)]
  if (hasSnapshot(layer, leftAs)) throw isTaken(layer, leftAs)
  const time = formatTime(statSync(snapshotOf(layer, snapshot)).mtimeMs)
  const says = `when it starts again, its files are those of ${time}, before generation ${before} was first tried; its present files then become the snapshot ${leftAs}`
  return { life: wished, says, json: { snapshot, leftAs } }
}

/** Its attempts have these numbers a second time, because the database of the site was replaced. */
function isTaken(layer: StoredLayer, name: string): NetimageError {
  const { machine } = layer
  return new NetimageError(
    'output-exists',
    `${machine} has a snapshot ${name} already, so its present files could not be kept`,
    {
      details: { file: snapshotOf(layer, name) },
      hint: `Remove the snapshot, and run this again: netimage layers remove ${machine} --snapshot ${name}.`,
    },
  )
}

function noState(
  layer: StoredLayer,
  to: number,
  before: number | undefined,
  taken: readonly number[],
): NetimageError {
  const { machine } = layer
  const without = `Go back with its present files: netimage site rollback ${machine} --to ${to}.`
  if (before === undefined) {
    return new NetimageError(
      'path-not-found',
      `${machine} has tried no other generation after generation ${to}, so there is no state to put back`,
      { details: { actual: to }, hint: without },
    )
  }
  const name = nameBefore(before)
  const others = taken.map(nameBefore).join(', ')
  const restore = `Or power it off and restore another snapshot (${others}): netimage layers restore ${machine} NAME.`
  return new NetimageError(
    'path-not-found',
    `${machine} has no snapshot ${name}: its state before it left generation ${to} was not kept`,
    {
      details: { file: snapshotOf(layer, name), expected: name },
      hint: taken.length === 0 ? without : `${without} ${restore}`,
    },
  )
}
