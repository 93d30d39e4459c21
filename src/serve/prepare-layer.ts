/**
 * What is done with the layer of a machine before it is opened for an attempt: the state from before a
 * trial is kept, and the layer goes back to such a state if a person said so.
 */
import { asNetimageError, explained, messageOf, type NetimageError } from '../errors.ts'
import { remember } from '../remember.ts'
import {
  generationsBefore,
  keepStateBefore,
  nameBefore,
  nameLeft,
  putBack,
  removeStatesBefore,
} from '../roots/state-snapshots.ts'
import { layerOf } from '../roots/stored-layer.ts'
import type { StateBack, Told } from '../site/life/life.ts'
import { dueState, keptStates, trialOf } from '../site/life/states.ts'
import type { Site } from '../site/site.ts'

/**
 * To be called before the layer is opened, while nothing uses it.
 *
 * @param attempt the last attempt of the machine
 * @returns undefined if the layer can be opened; otherwise this is to be called again when the promise
 *   has resolved. It rejects with an error if the layer must not be opened.
 */
export type PrepareLayer = (
  machine: string,
  attempt: number,
  signal: AbortSignal,
) => Promise<void> | undefined

export interface PreparingSettings {
  state: string
  site: Pick<Site, 'lifeOf' | 'stateIsBack'>
  onTold: (told: Told) => void
  onError: (error: NetimageError) => void
}

interface Work {
  machine: string
  back: StateBack | undefined
  /** The trial whose state from before is to be kept, and its first attempt. */
  trial: { generation: number; attempt: number } | undefined
  /** The generations from before which the snapshots are to go. */
  unwanted: readonly number[]
}

export function createPreparing(settings: PreparingSettings): PrepareLayer {
  const { state, site, onTold, onError } = settings
  /** The attempts for which the layers of machines are prepared. */
  const ready = new Map<string, number>()
  /**
   * The states that machines are back in while the site has not recorded this yet. A state is not
   * copied again each time that the site cannot record it.
   */
  const unrecorded = new Map<string, StateBack>()
  /** All layers are on one file system. */
  let canClone = true

  /** A machine boots also if its snapshots cannot be listed. */
  function takenOf(machine: string): number[] {
    try {
      return generationsBefore(layerOf(state, machine))
    } catch (error) {
      onError(asNetimageError(error))
      return []
    }
  }

  function workFor(machine: string): Work | undefined {
    const life = site.lifeOf(machine)
    const taken = takenOf(machine)
    const kept = keptStates(life, taken)
    const unwanted = taken.filter((number) => !kept.has(number))
    const back = dueState(life)
    const trial = trialOf(life)
    const isMissing = canClone && trial && !taken.includes(trial.generation)
    if (!back && !isMissing && unwanted.length === 0) return undefined
    return { machine, back, trial: isMissing ? trial : undefined, unwanted }
  }

  async function goBack(machine: string, back: StateBack, signal: AbortSignal): Promise<void> {
    const { to, before, after } = back
    const left = nameLeft(after)
    const done = unrecorded.get(machine)
    const isBack = done?.before === before && done.after === after
    try {
      if (!isBack) await putBack(layerOf(state, machine), before, left, signal)
    } catch (error) {
      const known = asNetimageError(error)
      throw explained(
        known,
        `${machine} waits for its state from before generation ${before}: ${known.message}`,
        {},
        `Mend this, and the machine goes on. Or let it boot with its present state: netimage site rollback ${machine} --to ${to}.`,
      )
    }
    const reason = `the snapshot ${nameBefore(before)}; its files until now are the snapshot ${left}`
    remember(unrecorded, machine, back)
    await site.stateIsBack(machine, back, reason)
    unrecorded.delete(machine)
  }

  async function keepStates({ machine, trial, unwanted }: Work, signal: AbortSignal) {
    const layer = layerOf(state, machine)
    if (trial) {
      const result = await keepStateBefore(layer, trial, signal)
      if (result === 'cannot clone') {
        canClone = false
        const reason = `the file system of ${state} cannot clone files; this is not said for each machine`
        onTold({ machine, kind: 'no snapshot', generation: trial.generation, reason })
      }
    }
    if (unwanted.length > 0) await removeStatesBefore(layer, unwanted)
  }

  async function prepare(work: Work, attempt: number, signal: AbortSignal): Promise<void> {
    const { machine, back, trial } = work
    if (back) await goBack(machine, back, signal)
    try {
      await keepStates(work, signal)
    } catch (error) {
      const known = asNetimageError(error)
      // The machine cannot have its layer now.
      if (known.code === 'in-use' || signal.aborted) throw known
      // Without a snapshot the machine boots all the same.
      const problem = trial
        ? `${machine} has no snapshot of its state from before generation ${trial.generation}`
        : `could not remove old snapshots of ${machine}`
      onError(explained(known, `${problem}: ${messageOf(known)}`, {}))
    }
    remember(ready, machine, attempt)
  }

  return (machine, attempt, signal) => {
    if (ready.get(machine) === attempt) return undefined
    const work = workFor(machine)
    if (work) return prepare(work, attempt, signal)
    remember(ready, machine, attempt)
    return undefined
  }
}
