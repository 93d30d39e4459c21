/** The files outside the store paths of images, which all roots over an image share. */
import { openOutsideFiles, openOutsideInSteps, type OutsideFiles } from './outside-files.ts'
import type { RootImage } from './root-image.ts'
import { createShared } from './shared.ts'
import { doInPieces, doSome, type Steps } from './steps.ts'
import { atFirst } from './walk-tree.ts'

export interface SharedOutsideFiles {
  /** @throws as `openOutsideFiles` */
  take(image: RootImage): OutsideFiles
  /** As `take`. */
  takeInSteps(image: RootImage): Steps<OutsideFiles>
  /** To be called once for each `take`. */
  release(image: RootImage): void
  /**
   * Looks at the files in pieces if there are many, so that `take` does not take long.
   *
   * @returns undefined if the caller can take them now. Otherwise a promise: after it has resolved, the caller
   *   takes them within some seconds, or they must be looked at again.
   * @throws as `openOutsideFiles`, as the promise does
   */
  prepare(image: RootImage): Promise<void> | undefined
}

/** How long prepared files are kept for those who ask again. Milliseconds. */
const keptMs = 15_000

export function createSharedOutsideFiles(): SharedOutsideFiles {
  const all = createShared<OutsideFiles>((files) => files.close())
  const going = new Map<string, Promise<void>>()

  /** @param later calls what it gets when the files are not kept any more */
  function keep(place: string, files: OutsideFiles, later: (release: () => void) => void): void {
    if (all.take(place, () => files) !== files) files.close()
    later(() => all.release(place))
  }

  async function goOn(place: string, steps: Steps<OutsideFiles>): Promise<void> {
    try {
      const files = await doInPieces(steps)
      keep(place, files, (release) => setTimeout(release, keptMs).unref())
    } finally {
      going.delete(place)
    }
  }

  return {
    take: (image) => all.take(keyOf(image), () => openOutsideFiles(image)),
    *takeInSteps(image) {
      const place = keyOf(image)
      const opened = all.has(place) ? undefined : yield* openOutsideInSteps(image)
      const files = all.take(place, () => opened ?? openOutsideFiles(image))
      // Somebody else has opened them in between.
      if (opened !== files) opened?.close()
      return files
    },
    release: (image) => all.release(keyOf(image)),
    prepare(image) {
      const place = keyOf(image)
      if (all.has(place)) return undefined
      const known = going.get(place)
      if (known) return known
      const steps = openOutsideInSteps(image)
      const files = doSome(steps, atFirst)
      if (files) {
        keep(place, files.value, setImmediate)
        return undefined
      }
      const begun = goOn(place, steps)
      going.set(place, begun)
      return begun
    },
  }
}

/** The same for the same image in the same place. */
export function keyOf({ id, outside }: RootImage): string {
  return `${id} ${outside}`
}
