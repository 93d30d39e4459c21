/** Which generations and images a machine keeps. */
import { generationOf, lastAttempt, type Generation, type Life } from './life.ts'

/** How many further good generations a machine keeps if no roll-out says otherwise. */
export const defaultKeep = 3

/** Old generations are forgotten, so that the data of a machine has a limit. */
const keptGenerations = 200

/**
 * The generations whose store paths the machine keeps: that of its last attempt (the machine may
 * run in it), the current one, the last good one, and the newest other good ones.
 */
export function keptOf(life: Life): Generation[] {
  const numbers = new Set([lastAttempt(life)?.generation, life.current, life.lastGood])
  const good = life.generations.filter(
    ({ number, verdict }) => verdict === 'good' && !numbers.has(number),
  )
  const { keep = defaultKeep } = life
  for (const { number } of good.slice(Math.max(0, good.length - keep))) numbers.add(number)
  return life.generations.filter(({ number }) => numbers.has(number))
}

/** The ids of the images that the generations need which the machine keeps. The oldest come first. */
export function keptImagesOf(life: Life): string[] {
  const newestFirst = keptOf(life).toReversed()
  const ids = newestFirst.flatMap(({ image, keptImages = [] }) => [
    image,
    ...keptImages.toReversed(),
  ])
  return [...new Set(ids)].toReversed()
}

/** The ids of the images that must stay in the site for the machine. */
export function neededImages(life: Life): Set<string> {
  return new Set([...keptImagesOf(life), ...(lastAttempt(life)?.keptImages ?? [])])
}

export function withGeneration(life: Life, changed: Generation): Life {
  const isKnown = generationOf(life, changed.number) !== undefined
  const generations = isKnown
    ? life.generations.map((each) => (each.number === changed.number ? changed : each))
    : [...life.generations, changed]
  if (generations.length <= keptGenerations) return { ...life, generations }
  const kept = new Set(keptOf(life).map(({ number }) => number))
  const oldest = generations.find(({ number }) => !kept.has(number))
  return { ...life, generations: generations.filter((each) => each !== oldest) }
}
