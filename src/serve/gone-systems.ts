/** Finds generations of a machine whose systems it does not have any more: see site/life/gone.ts. */
import { asNetimageError, explained, type NetimageError } from '../errors.ts'
import { findOwnSystems } from '../roots/own-systems.ts'
import { hasSnapshot } from '../roots/snapshots.ts'
import { nameBefore } from '../roots/state-snapshots.ts'
import { layerOf } from '../roots/stored-layer.ts'
import type { Generation, Life } from '../site/life/life.ts'
import type { OpenSystems } from './open-systems.ts'

/**
 * To be called before an attempt begins, when the machine has stopped.
 *
 * @returns the numbers of the generations. If the layer cannot be read, none, and if an image cannot be
 *   read, not those that need it: the machine may have the systems.
 */
export type FindGone = (life: Life) => Promise<ReadonlySet<number>>

export interface GoneSystemsSettings {
  state: string
  systems: Pick<OpenSystems, 'hasStorePath'>
  /** Resolves when the layer of the machine is closed. */
  whenClosed: (machine: string) => Promise<void>
  /** Whether the layers of machines are reset at each boot. */
  ephemeral: boolean
  onError: (error: NetimageError) => void
}

export function createFindGone(settings: GoneSystemsSettings): FindGone {
  const { state, systems, whenClosed, ephemeral, onError } = settings

  /** The generations of these that are only in the files of the machine, and are not there. */
  async function notInLayer(
    { machine, stateBack }: Life,
    published: readonly Generation[],
  ): Promise<Generation[]> {
    if (ephemeral) return [...published]
    await whenClosed(machine)
    const layer = layerOf(state, machine)
    // With this generation, the machine gets its files from then.
    const goesBack = ({ number }: Generation) => number === stateBack?.to
    const now = published.filter((each) => !goesBack(each))
    const own = await findOwnSystems(layer, toplevelsOf(now))
    const gone = now.filter(({ toplevel }) => !own.has(toplevel))
    const then = published.filter(goesBack)
    const snapshot = stateBack && nameBefore(stateBack.before)
    // Without the snapshot, the machine gets no root, and is told why.
    if (then.length === 0 || snapshot === undefined || !hasSnapshot(layer, snapshot)) return gone
    const before = await findOwnSystems(layer, toplevelsOf(then), snapshot)
    return [...gone, ...then.filter(({ toplevel }) => !before.has(toplevel))]
  }

  /** A machine can publish the system of an image that it had before. */
  async function isInImage({ image, keptImages = [], toplevel }: Generation): Promise<boolean> {
    for (const id of [image, ...keptImages]) {
      if (await systems.hasStorePath(id, toplevel)) return true
    }
    return false
  }

  function tell(machine: string, error: unknown): void {
    const known = asNetimageError(error)
    const problem = `could not find out which systems ${machine} has: ${known.message}`
    onError(explained(known, problem, {}))
  }

  return async (life) => {
    const gone = new Set<number>()
    const published = life.generations.filter((each) => each.published !== undefined)
    if (published.length === 0) return gone
    try {
      for (const each of await notInLayer(life, published)) {
        // An image that cannot be read says nothing of the other generations.
        const isThere = await isInImage(each).catch((error: unknown) => {
          tell(life.machine, error)
          return true
        })
        if (!isThere) gone.add(each.number)
      }
    } catch (error) {
      tell(life.machine, error)
    }
    return gone
  }
}

function toplevelsOf(generations: readonly Generation[]): string[] {
  return generations.map(({ toplevel }) => toplevel)
}
