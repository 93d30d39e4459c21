/** Measures the layers of machines, one after the other, in pieces. */
import { asNetimageError, errnoOf, NetimageError } from '../errors.ts'
import { doInPieces } from '../roots/steps.ts'
import { measureLayerInSteps, type LayerSize } from '../roots/store.ts'
import { layerOf } from '../roots/stored-layer.ts'

export interface LayerSizes {
  /** Measures those that were not measured for a while. */
  want(machines: Iterable<string>): void
  of(machine: string): LayerSize | undefined
  close(): Promise<void>
}

/** Machines may have hundreds of thousands of files. Milliseconds. */
const againMs = 10 * 60_000

export function createLayerSizes(
  state: string,
  onError: (error: NetimageError) => void,
): LayerSizes {
  const sizes = new Map<string, { at: number; size: LayerSize | undefined }>()
  const waiting = new Set<string>()
  let measuring: string | undefined
  const ending = new AbortController()
  let working: Promise<void> | undefined

  async function measureAll(): Promise<void> {
    for (const machine of waiting) {
      waiting.delete(machine)
      measuring = machine
      const size = await measureOne(machine)
      if (ending.signal.aborted) return
      sizes.set(machine, { at: performance.now(), size })
    }
  }

  async function measureOne(machine: string): Promise<LayerSize | undefined> {
    try {
      return await doInPieces(measureLayerInSteps(layerOf(state, machine)), ending.signal)
    } catch (error) {
      // The layer is being changed or removed, or it is broken, which the server tells itself.
      const isOfLayer = error instanceof NetimageError || errnoOf(error) !== undefined
      if (ending.signal.aborted || isOfLayer) return undefined
      throw error
    }
  }

  return {
    want(machines) {
      const now = performance.now()
      for (const machine of machines) {
        const known = sizes.get(machine)
        const isOld = !known || now - known.at >= againMs
        if (isOld && machine !== measuring) waiting.add(machine)
      }
      if (waiting.size === 0 || ending.signal.aborted) return
      working ??= measureAll()
        .catch((error: unknown) => onError(asNetimageError(error)))
        .finally(() => (working = measuring = undefined))
    },
    of: (machine) => sizes.get(machine)?.size,
    async close() {
      ending.abort()
      await working
    },
  }
}
