import { exitStatus } from '../errors.ts'
import type { ResolvedGroup } from '../site/desired/resolve.ts'
import type { KnownMachine } from '../site/desired/catalogue.ts'
import type { Plan } from '../site/plan/planned.ts'
import { openStateToAdd, type OpenedToAdd } from './add-to-site.ts'
import { becomeOwner } from './become-owner.ts'
import { callingPerson } from './calling-person.ts'
import { commandThatBuilds, type BuildFlags } from './build.ts'
import { stateOption } from './common-options.ts'
import { imagesOfGroups, missingImages, originOf, type OriginOfGroup } from './plan-images.ts'
import { runCommand, type Surroundings } from './run.ts'
import { showPlan } from './show-plan.ts'

/** The exit status if machines are to boot something else. */
const somethingToDo = 2

export function planCommand() {
  return describePlan().action(async (flags) => {
    let isPlanned = false
    await runCommand(flags, async (around) => {
      const plan = await planByFlags(flags, around)
      isPlanned = true
      return { text: showPlan(plan), json: plan, exitStatus: plan.isDone ? 0 : somethingToDo }
    })
    // So that a script can tell mistakes in the file from something to do.
    if (!isPlanned && process.exitCode === somethingToDo) process.exitCode = exitStatus.failed
  })
}

/** Separate from the action, so that commander infers the type of the flags. */
function describePlan() {
  return commandThatBuilds('plan')
    .description('Show what has to change so that machines boot what the file of the site says')
    .option(
      '--file <file>',
      'the file of the site: .toml, .json, .ts or .js (default: ./site.toml)',
    )
    .addOption(stateOption)
}

interface PlanFlags extends BuildFlags {
  file?: string | undefined
  state?: string | undefined
}

async function planByFlags(flags: PlanFlags, around: Surroundings): Promise<Plan> {
  const { makePlan } = await import('../site/plan/plan.ts')
  const { plannedImage, readSiteNow } = await import('../site/plan/site-now.ts')
  const { unfitImages } = await import('../site/plan/unfit.ts')
  const { badSite } = await import('../site/desired/problem.ts')
  const wanted = await readWanted(flags)
  const { site, groups, origins } = wanted
  using held = new DisposableStack()
  const images = await imagesOfGroups(site, origins, flags, around, held)
  const withImages = groups.flatMap((group, at) => {
    const found = images[at]
    if (!found) return []
    const { image, findings } = found
    return [{ group, image: plannedImage(image), closure: image.closure, findings }]
  })
  // Building can take long, and machines have booted meanwhile.
  const now = readSiteNow(site.state)
  const plan = await makePlan(withImages, wanted.machines, wanted.notes, now)
  const unfit = unfitImages(plan)
  if (unfit.length > 0) throw badSite(wanted.file, unfit)
  return plan
}

interface WantedSite {
  file: string
  site: OpenedToAdd
  groups: readonly ResolvedGroup[]
  /** One for each group. */
  origins: readonly OriginOfGroup[]
  /** Those that the file names. */
  machines: readonly KnownMachine[]
  notes: readonly string[]
}

/** Finds all mistakes in the file before something is built. */
async function readWanted(flags: PlanFlags): Promise<WantedSite> {
  const { readSiteFile } = await import('../site/desired/read.ts')
  const { makeCatalogue } = await import('../site/desired/catalogue.ts')
  const { resolveGroups } = await import('../site/desired/resolve.ts')
  const { badSite } = await import('../site/desired/problem.ts')
  const { machinesOf, readSiteNow } = await import('../site/plan/site-now.ts')
  const { file, directory, desired } = await readSiteFile(flags.file)
  const origins = desired.groups.map(({ name, system }) => ({
    group: name,
    origin: originOf(system, directory),
  }))
  const site = await openSite(flags.state, origins)
  const catalogue = makeCatalogue(desired, machinesOf(readSiteNow(site.state)))
  const { groups, problems, notes } = resolveGroups(desired, catalogue)
  const all = [...problems, ...(await missingImages(site.state, origins))]
  if (all.length > 0) throw badSite(file, all)
  return { file, site, groups, origins, machines: catalogue.named, notes }
}

/** The site is only read if it has all images. */
async function openSite(
  named: string | undefined,
  origins: readonly OriginOfGroup[],
): Promise<OpenedToAdd> {
  if (origins.some(({ origin }) => !('ofSite' in origin))) return await openStateToAdd(named)
  const { stateDirectory } = await import('../serve/state.ts')
  const state = stateDirectory(named)
  const person = callingPerson()
  becomeOwner(state)
  return { state, person, isOther: false }
}
