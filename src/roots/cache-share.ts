/**
 * Shares memory between the open databases of layers. With few of them, each can keep many pages in memory; with
 * many, each keeps fewer. So the memory has a limit, however many machines there are.
 */

/** Kibibytes. 32 layers can have the most. With 512, each has a sixteenth of it. */
const cache = { ofAll: 128 * 1024, ofOne: 4 * 1024 }

/** Called with the number of kibibytes that each of them may use. */
const open = new Set<(kibibytes: number) => void>()
let share = cache.ofOne

/** @param use called now and at each change @returns a function to be called when the database is closed */
export function shareCache(use: (kibibytes: number) => void): () => void {
  open.add(use)
  use(share)
  divide()
  return () => {
    open.delete(use)
    divide()
  }
}

/** By halves, so that few openings change the share of all. */
function divide(): void {
  let now = cache.ofOne
  while (now > 1 && now * open.size > cache.ofAll) now /= 2
  if (now === share) return
  share = now
  for (const use of open) use(share)
}
