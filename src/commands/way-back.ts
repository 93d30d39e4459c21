/** Lets a machine go back to a good generation that can still boot. */
import { rollback, type NoWayBack } from '../site/life/choose.ts'
import type { Generation, Life } from '../site/life/life.ts'
import type { Entry } from '../site/log/entry.ts'
import { mustBeBootable } from './bootable.ts'

export interface WayBack {
  life: Life
  generation: Generation
  /** The row of the log, once the life is kept. */
  entry: Extract<Entry, { kind: 'rolled back' }>
}

/**
 * @param to default: as for `rollback`
 * @throws `NetimageError` `bad-generation` if the generation cannot boot any more
 */
export function findWayBack(state: string, before: Life, to?: number): WayBack | NoWayBack {
  const back = rollback(before, to)
  if (typeof back === 'string') return back
  const { life, generation } = back
  mustBeBootable(state, life, generation)
  const { current } = before
  const was = current !== undefined && { before: current }
  return { life, generation, entry: { kind: 'rolled back', generation: generation.number, ...was } }
}
