/**
 * Limits the layers that a process gives to machines that nobody knows. With `--allow any`, one host can be any number of machines, and
 * each gets a layer. Layers are never removed for this: a machine that nobody knows may have data.
 */
import { asNetimageError, NetimageError } from '../errors.ts'
import { doInPieces, doNow, type Steps } from '../roots/steps.ts'
import { remember } from '../remember.ts'
import { layersOf, listLayers } from '../roots/stored-layer.ts'

export interface StrangerLayersSettings {
  state: string
  /** Whether a person chose something for the machine, or it was up before. */
  isKnown: (machine: string) => boolean
  onError: (error: NetimageError) => void
  /** The most layers of machines that are not known. */
  most?: number
}

/** Each takes a little more than a mebibyte of the disk, if nothing is written to it. */
const defaultMost = 1024
/** Milliseconds from one count to the next. */
const countAgainMs = 60_000
/** For so long a refusal counts: a machine asks many times in a second. Milliseconds. */
const refusedMs = 1000

/** Counts the layers that are there. @returns whether a machine may be given a layer, or has one */
export function createStrangerLayers({
  state,
  isKnown,
  onError,
  most = defaultMost,
}: StrangerLayersSettings): (machine: string) => boolean {
  /** Those that were there at the last count, and those that were given layers since then. */
  let strangers = doNow(count())
  let countedAt = performance.now()
  let isCounting = false
  let isTold = false
  const refusedAt = new Map<string, number>()

  function* count(): Steps<Set<string>> {
    const found = new Set<string>()
    for (const { machine } of listLayers(state)) {
      if (!isKnown(machine)) found.add(machine)
      yield
    }
    return found
  }

  async function countAgain(): Promise<void> {
    isCounting = true
    const before = new Set(strangers)
    try {
      const found = await doInPieces(count())
      // The count may have passed the place of those that were given layers meanwhile.
      for (const machine of strangers) if (!before.has(machine)) found.add(machine)
      strangers = found
      refusedAt.clear()
      isTold &&= strangers.size >= most
    } catch (error) {
      onError(asNetimageError(error))
    } finally {
      countedAt = performance.now()
      isCounting = false
    }
  }

  return (machine) => {
    const now = performance.now()
    if (now - (refusedAt.get(machine) ?? -Infinity) < refusedMs) return false
    const isAdmitted = strangers.has(machine) || layersOf(state, machine).length > 0
    if (isAdmitted || isKnown(machine)) return true
    if (strangers.size < most) {
      strangers.add(machine)
      return true
    }
    remember(refusedAt, machine, now)
    if (!isCounting && now - countedAt > countAgainMs) void countAgain()
    if (!isTold) onError(tooMany(machine, most))
    isTold = true
    return false
  }
}

function tooMany(machine: string, most: number): NetimageError {
  return new NetimageError(
    'too-many-machines',
    `${machine} gets no root: ${most} machines that were never up have layers already`,
    {
      details: { actual: most },
      hint: 'If the machine is yours, name it with --allow, or choose what it boots with netimage site. Remove layers of machines that are not yours with netimage layers remove. New machines that nobody named wait meanwhile.',
    },
  )
}
