/** Reads what a plan needs to know of a site. */
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'

import { NetimageError } from '../../errors.ts'
import { sitePlaces } from '../../image/site-places.ts'
import type { System } from '../../nixos/system.ts'
import type { KeptFiles } from '../../roots/kept-files.ts'
import { readRecord } from '../../roots/record.ts'
import { layerOf } from '../../roots/stored-layer.ts'
import { broughtBy, willKeep } from '../../roots/will-keep.ts'
import type { TreeFile } from '../../tree-files.ts'
import { openSiteToRead } from '../database.ts'
import { refuseBroken, type Declarations } from '../declarations.ts'
import type { SiteMachines } from '../desired/network-cards.ts'
import { readSiteManifest, type SiteImage } from '../images/site-image.ts'
import { generationOf, lastAttempt, type Life } from '../life/life.ts'
import { openPublished, publishedOf } from '../publish/published.ts'
import { noRollouts, type SiteRollouts } from '../rollout/statements.ts'
import type { BrokenRow } from '../rows.ts'
import type { SiteReader } from '../statements.ts'
import type { ClosureItem } from './closure-difference.ts'
import type { Booted, PlannedImage } from './planned.ts'

/** What a machine boots, and its closure if that is known. */
export interface Described {
  booted: Booted
  closure?: readonly ClosureItem[]
}

/** What the rows of a site say of its machines. */
export interface SiteFacts {
  lives: ReadonlyMap<string, Life>
  /** The machines with broken rows, which have no life here. */
  broken: ReadonlyMap<string, BrokenRow>
  /** Names by machine. */
  names: ReadonlyMap<string, string>
  rollouts: SiteRollouts
  /** What the file said of machines when it was applied last. */
  declarations: Declarations
  /** The time in which servers ran, until now. Milliseconds. */
  uptime: number
}

/** What a plan needs to know of a site. */
export interface SiteNow extends SiteFacts {
  /** What the machine boots with a generation. */
  describe: (life: Life, number: number) => Promise<Described>
  /**
   * What stays on a machine although an image brings something else.
   *
   * @param files what the image brings outside its store paths
   */
  willKeep: (files: readonly TreeFile[]) => (machine: string) => KeptFiles | { problem: string }
}

export function readSiteNow(state: string): SiteNow {
  const site = openSiteToRead(state)
  try {
    const imageOf = imagesIn(state)
    return {
      ...(site ? factsOf(site) : noFacts),
      describe: describeIn(state, imageOf),
      willKeep: willKeepIn(state, imageOf),
    }
  } finally {
    site?.close()
  }
}

const noFacts: SiteFacts = {
  ...{ lives: new Map(), broken: new Map(), names: new Map(), uptime: 0 },
  rollouts: noRollouts,
  declarations: new Map(),
}

export function factsOf(
  site: Pick<SiteReader, 'lives' | 'names' | 'uptime' | 'rollouts' | 'declarations'>,
): SiteFacts {
  const broken = new Map<string, BrokenRow>()
  const lives = site.lives((error) => broken.set(error.machine, error))
  return {
    broken,
    lives: new Map(lives.map((life) => [life.machine, life])),
    ...{ names: site.names(), rollouts: site.rollouts(), uptime: site.uptime() },
    declarations: site.declarations(refuseBroken),
  }
}

/** @param serials by hardware address, as the server has seen them */
export function machinesOf(
  { lives, broken, names, rollouts, declarations }: SiteFacts,
  serials: SiteMachines['serials'],
): SiteMachines {
  const started = new Map([...broken.keys()].map((machine) => [machine, 0]))
  for (const [machine, life] of lives) started.set(machine, lastAttempt(life)?.startedAt ?? 0)
  const good = [...lives.values()].filter(({ lastGood }) => lastGood !== undefined)
  const settled = new Set([...rollouts.groups.keys(), ...good.map(({ machine }) => machine)])
  return { names, lastStarted: started, settled, declarations, serials }
}

type ImageOf = (id: string) => ReturnType<typeof readSiteManifest> | undefined

/** Reads each image once: many machines boot the same. */
function imagesIn(state: string): ImageOf {
  const known = new Map<string, ReturnType<ImageOf>>()
  return (id) => {
    if (!known.has(id))
      known.set(
        id,
        orMissing(() => readSiteManifest(join(sitePlaces(state).images, id), id)),
      )
    return known.get(id)
  }
}

function willKeepIn(state: string, imageOf: ImageOf): SiteNow['willKeep'] {
  const nothing = { files: [], more: 0 }
  return (files) => {
    const brought = broughtBy(files)
    /** By the id of another image: whether it brings the same. */
    const same = new Map<string, boolean>()
    const isSame = (id: string) => {
      const found = same.get(id) ?? isDeepStrictEqual(imageOf(id)?.manifest.root.files, files)
      same.set(id, found)
      return found
    }
    return (machine) => {
      const { directory } = layerOf(state, machine)
      try {
        const record = readRecord(directory)
        if (!record || isSame(record.image.id)) return nothing
        return willKeep(join(directory, record.name), brought) ?? nothing
      } catch (error) {
        if (!(error instanceof NetimageError)) throw error
        return { problem: error.message }
      }
    }
  }
}

function describeIn(state: string, imageOf: ImageOf): SiteNow['describe'] {
  return async (life, number) => {
    const { image: id = '', toplevel = '', published } = generationOf(life, number) ?? {}
    const image = imageOf(id)
    const booted = {
      ...{ image: id, toplevel },
      ...(image && { name: image.options.rootDirectoryName, platform: image.system.platform }),
    }
    if (published === undefined) {
      return image
        ? { booted: { ...booted, ...kernelOf(image.system) }, closure: image.closure }
        : { booted }
    }
    const own = await openPublished(publishedOf(state, life.machine), published).catch(orUndefined)
    return { booted: { ...booted, isOwn: true, ...(own && kernelOf(own.system)) } }
  }
}

/** What is shown of a system that machines boot. */
function kernelOf({ label, entries: [main] }: System): { label: string; kernel?: string } {
  return { label, ...(main && { kernel: main.kernel }) }
}

export function plannedImage({ id, system, options }: SiteImage): PlannedImage {
  const { platform, toplevel } = system
  const { label, kernel = '' } = kernelOf(system)
  return { id, name: options.rootDirectoryName, label, platform, toplevel, kernel }
}

function orMissing<T>(action: () => T): T | undefined {
  try {
    return action()
  } catch (error) {
    return orUndefined(error)
  }
}

/** What is gone or damaged cannot be shown, and need not be: another system takes its place. */
function orUndefined(error: unknown): undefined {
  if (!(error instanceof NetimageError)) throw error
}
