/** The commands for the images of a site. */
import { Command, Option } from '@commander-js/extra-typings'

import { explained, type NetimageError } from '../errors.ts'
import { plural } from '../progress.ts'
import { saysMachines } from '../says-list.ts'
import { becomeOwner } from './become-owner.ts'
import { commandThatBuilds } from './build.ts'
import { jsonOption, stateOption } from './common-options.ts'
import { formatBytes, formatTime } from './format.ts'
import { openStateToChange } from './open-state.ts'
import { asData, runCommand, type Outcome, type Surroundings } from './run.ts'
import { namesIn } from './site-machine.ts'
import { collect } from './store-options.ts'

export function addCommand() {
  return describeAdd().action((named, flags) =>
    runCommand(flags, (around) => add(named, flags, around)),
  )
}

/** Separate from the action, so that commander infers the type of the flags. */
function describeAdd() {
  return commandThatBuilds('add')
    .description('Add an image to the site; a system is built first')
    .argument('<image>', 'an image that build made, or a system as for build')
    .option('--repair', 'hash also what the site has of the image, and replace what has changed')
    .addOption(stateOption)
}

async function add(
  named: string,
  flags: ReturnType<ReturnType<typeof describeAdd>['opts']>,
  around: Surroundings,
): Promise<Outcome> {
  const { addToSite, openStateToAdd, whatToAdd } = await import('./add-to-site.ts')
  const what = whatToAdd(named)
  const site = await openStateToAdd(flags.state)
  const result = await addToSite(site, what, flags, around)
  const { image, isNew, isRepaired, added, repaired, method } = result
  image.release()
  const { id, manifest, closure } = image
  const { label, platform, toplevel } = manifest.system
  const shown = `${manifest.options.rootDirectoryName} (${label}, ${platform})`
  const how = `${plural(closure.length, 'store path')}, ${added} of them new`
  const known = isRepaired ? `repaired ${shown}` : `the site had ${shown} already`
  around.progress.begin('done').end(isNew ? `added ${shown}: ${how}` : known)
  return {
    text: id,
    json: {
      ...{ id, name: manifest.options.rootDirectoryName, label, platform, toplevel, isNew },
      ...{ storePaths: closure.length, addedStorePaths: added, method },
      ...(flags.repair && { isRepaired, repairedStorePaths: repaired }),
    },
  }
}

export function imagesCommand() {
  return new Command('images')
    .description('Show the images of the site')
    .addOption(stateOption)
    .option(...jsonOption)
    .action((flags) => runCommand(flags, () => images(flags.state)))
}

async function images(named: string | undefined): Promise<Outcome> {
  const { stateDirectory } = await import('../serve/state.ts')
  const { listSiteImages } = await import('../site/images/site-image.ts')
  const { shownDigits } = await import('../site/images/choose-image.ts')
  const { machinesByImage } = await import('../site/images/users.ts')
  const state = stateDirectory(named)
  becomeOwner(state)
  const broken: NetimageError[] = []
  const listed = listSiteImages(state, (error) => broken.push(error))
  const machines = machinesByImage(state, (error) => broken.push(error))
  const names = await namesIn(state)
  const found = listed.map((image) => ({ ...image, keptBy: machines.get(image.id) ?? [] }))
  const lines = found.map(({ id, name, label, platform, added, narBytes, keptBy }) => {
    const users = keptBy.length === 0 ? 'kept by nothing' : `kept by ${saysMachines(keptBy, names)}`
    const parts = [id.slice(0, shownDigits), name, label, platform, formatBytes(narBytes)]
    return [...parts, `added ${formatTime(added)}`, users].join('  ')
  })
  lines.push(...broken.map(({ message }) => message))
  return {
    text: lines.join('\n') || 'no images yet',
    json: { images: found, ...(broken.length > 0 && { broken: broken.map(asData) }) },
  }
}

export function collectCommand() {
  return new Command('gc')
    .description('Remove the images that no machine uses, and the store paths that only they had')
    .addOption(stateOption)
    .addOption(
      new Option(
        '--keep <image>',
        'keep this image as well: its name, or the beginning of its id; repeatable',
      ).argParser(collect),
    )
    .option(...jsonOption)
    .option('-q, --quiet', 'show no progress')
    .action((flags) => runCommand(flags, (around) => gc(flags, around)))
}

async function gc(
  flags: { state?: string | undefined; keep?: string[] | undefined },
  { signal, progress }: Surroundings,
): Promise<Outcome> {
  const { removeUnused } = await import('../site/images/remove-unused.ts')
  const { saysFreed } = await import('../site/log/sentence.ts')
  const { chooseSiteImage } = await import('../site/images/choose-image.ts')
  const { machinesByImage } = await import('../site/images/users.ts')
  const { state, person } = await openStateToChange(flags.state)
  const kept = () => {
    const named = (flags.keep ?? []).map((name) => chooseSiteImage(state, name).id)
    const used = machinesByImage(state, (error) => {
      throw explained(error, `no image was removed, because ${error.message}`, {})
    })
    return new Set([...named, ...used.keys()])
  }
  const result = await removeUnused(state, kept, { signal, progress, who: person })
  const { removedImages, removedStorePaths, inUse, freedBytes } = result
  const removed = `${plural(removedImages.length, 'image')} and ${plural(removedStorePaths, 'store path')}`
  const freed = freedBytes === 0 ? '' : `, ${saysFreed(result)}`
  const served =
    inUse.length === 0 ? '' : `, kept ${plural(inUse.length, 'image')} that a server uses`
  return { text: `removed ${removed}${freed}${served}`, json: { ...result } }
}
