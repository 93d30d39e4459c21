/** Makes a plan, and what is needed to apply it. */
import type { Catalogue } from '../site/desired/catalogue.ts'
import type { Desired } from '../site/desired/desired.ts'
import type { Resolved } from '../site/desired/resolve.ts'
import type { Decided, Plan } from '../site/plan/planned.ts'
import type { SiteFacts } from '../site/plan/site-now.ts'
import { openStateToAdd, type OpenedToAdd } from './add-to-site.ts'
import { becomeOwner } from './become-owner.ts'
import type { BuildFlags } from './build.ts'
import { callingPerson } from './calling-person.ts'
import {
  imagesOfGroups,
  missingImages,
  originOf,
  type ImageOfGroup,
  type OriginOfGroup,
} from './plan-images.ts'
import type { Surroundings } from './run.ts'

export interface PlanFlags extends BuildFlags {
  file?: string | undefined
  state?: string | undefined
}

export interface PlannedSite {
  site: OpenedToAdd
  plan: Plan
  /** By group. */
  images: ReadonlyMap<string, ImageOfGroup>
  /** Decides again what there is to do. @throws `NetimageError` `bad-site` */
  decide: (facts: SiteFacts) => Decided
}

/**
 * @param how `to change`: the site is going to be changed
 * @param held lets go of the images at its end
 */
export async function planSite(
  how: 'to read' | 'to change',
  flags: PlanFlags,
  around: Surroundings,
  held: DisposableStack,
): Promise<PlannedSite> {
  const { makePlan } = await import('../site/plan/plan.ts')
  const { decidePlan } = await import('../site/plan/decide.ts')
  const { plannedImage, readSiteNow } = await import('../site/plan/site-now.ts')
  const { unfitImages } = await import('../site/plan/unfit.ts')
  const { badSite } = await import('../site/desired/problem.ts')
  const { file, site, groups, origins, machines, notes, resolve } = await readWanted(how, flags)
  const found = await imagesOfGroups(site, origins, flags, around, held)
  const images = new Map(
    groups.flatMap(({ name }, at) => {
      const image = found[at]
      return image ? [[name, image] as const] : []
    }),
  )
  const withImages = (all: typeof groups) =>
    all.flatMap((group) => {
      const found = images.get(group.name)
      if (!found) return []
      const { image, findings } = found
      const { closure, manifest } = image
      return [{ group, image: plannedImage(image), closure, files: manifest.root.files, findings }]
    })
  // Building can take long, and machines have booted meanwhile.
  const plan = await makePlan(withImages(groups), machines, notes, readSiteNow(site.state))
  const unfit = unfitImages(plan)
  if (unfit.length > 0) throw badSite(file, unfit)
  return {
    ...{ site, plan, images },
    decide(facts) {
      const { groups, problems, notes, catalogue } = resolve(facts)
      if (problems.length > 0) throw badSite(file, problems)
      return decidePlan(withImages(groups), catalogue.named, notes, facts)
    },
  }
}

interface WantedSite extends Pick<Resolved, 'groups' | 'notes'> {
  file: string
  site: OpenedToAdd
  /** One for each group. */
  origins: readonly OriginOfGroup[]
  /** Those that the file names. */
  machines: Catalogue['named']
  resolve: Resolve
}

type Resolve = (facts: SiteFacts) => Resolved & { catalogue: Catalogue }

/** Finds all mistakes in the file before something is built. */
async function readWanted(how: 'to read' | 'to change', flags: PlanFlags): Promise<WantedSite> {
  const { readSiteFile } = await import('../site/desired/read.ts')
  const { badSite } = await import('../site/desired/problem.ts')
  const { readSiteNow } = await import('../site/plan/site-now.ts')
  const { file, directory, desired } = await readSiteFile(flags.file)
  const origins = desired.groups.map(({ name, system }) => ({
    group: name,
    origin: originOf(system, directory),
  }))
  const isComplete = origins.every(({ origin }) => 'ofSite' in origin)
  const site =
    how === 'to read' && isComplete
      ? await openToPlan(flags.state)
      : await openStateToAdd(flags.state)
  const resolve = await resolver(desired, site.state)
  const { groups, problems, notes, catalogue } = resolve(readSiteNow(site.state))
  const all = [...problems, ...(await missingImages(site.state, origins))]
  if (all.length > 0) throw badSite(file, all)
  return { file, site, groups, origins, machines: catalogue.named, notes, resolve }
}

async function resolver(desired: Desired, state: string): Promise<Resolve> {
  const { readSerials } = await import('../boots/read.ts')
  const { makeCatalogue } = await import('../site/desired/catalogue.ts')
  const { resolveGroups } = await import('../site/desired/resolve.ts')
  const { machinesOf } = await import('../site/plan/site-now.ts')
  const serials = readSerials(state)
  return (facts) => {
    const catalogue = makeCatalogue(desired, machinesOf(facts, serials))
    return { ...resolveGroups(desired, catalogue), catalogue }
  }
}

/** The site is only read, because it has all images. */
async function openToPlan(named: string | undefined): Promise<OpenedToAdd> {
  const { stateDirectory } = await import('../serve/state.ts')
  const state = stateDirectory(named)
  const person = callingPerson()
  becomeOwner(state)
  return { state, person, isOther: false }
}
