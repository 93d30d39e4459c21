/** Which machines use the images of a site. */
import { explained, NetimageError } from '../../errors.ts'
import { readRecord } from '../../roots/record.ts'
import { imagesOfSnapshots } from '../../roots/snapshots.ts'
import { listLayers, type StoredLayer } from '../../roots/stored-layer.ts'
import { openSiteToRead } from '../database.ts'
import { neededImages } from '../life/kept.ts'
import { generationOf, type Life } from '../life/life.ts'
import type { Rollout } from '../rollout/rollout.ts'
import { noRollouts } from '../rollout/statements.ts'

/**
 * @param onUnreadable is told about layers and machines of which it cannot be known which images they
 *   need; these are left out
 * @returns for each id of an image: the machines that have a layer or a snapshot over the image, that
 *   keep a generation which needs the image, or whose group has it by its newest roll-out
 * @throws `NetimageError` if the site cannot be read
 */
export function machinesByImage(
  state: string,
  onUnreadable: (error: NetimageError) => void,
): Map<string, string[]> {
  const machines = new Map<string, Set<string>>()
  const uses = (machine: string, id: string) =>
    machines.set(id, (machines.get(id) ?? new Set()).add(machine))
  for (const layer of listLayers(state)) {
    try {
      for (const id of imagesOfLayer(layer)) uses(layer.machine, id)
    } catch (error) {
      if (!(error instanceof NetimageError)) throw error
      onUnreadable(unknown(`layer of ${layer.machine} needs`, error))
    }
  }
  const site = openSiteToRead(state)
  try {
    const lives = site?.lives((error) =>
      onUnreadable(unknown(`machine ${error.machine} needs`, error)),
    )
    const byMachine = new Map((lives ?? []).map((life) => [life.machine, life]))
    for (const [machine, life] of byMachine) {
      for (const id of neededImages(life)) uses(machine, id)
    }
    const { newest, broken, groups } = site?.rollouts() ?? noRollouts
    for (const error of broken) onUnreadable(unknown('machines of a roll-out need', error))
    for (const rollout of newest) {
      for (const [machine, id] of imagesOfRollout(rollout, byMachine)) uses(machine, id)
      for (const machine of Object.keys(rollout.machines)) {
        if (groups.get(machine) === rollout.group) uses(machine, rollout.candidate.image)
      }
    }
  } finally {
    site?.close()
  }
  return new Map([...machines].map(([id, names]) => [id, [...names]]))
}

/** What the roll-out may still give to machines: what they booted before it. */
function imagesOfRollout(
  { machines }: Rollout,
  lives: ReadonlyMap<string, Life>,
): (readonly [machine: string, id: string])[] {
  return Object.entries(machines).flatMap(([machine, { given }]) => {
    const life = lives.get(machine)
    const before = life && generationOf(life, given?.before.current)
    const ids = before ? [before.image, ...(before.keptImages ?? [])] : []
    return ids.map((id) => [machine, id] as const)
  })
}

function unknown(what: string, error: NetimageError): NetimageError {
  const why = `it is not known which images the ${what}: ${error.message}`
  return explained(error, why, {})
}

/** The next binding may need files of the images of the last one, or of those of a snapshot. */
function imagesOfLayer(layer: StoredLayer): string[] {
  const record = readRecord(layer.directory)
  // The server was killed while it made the layer: nothing was written yet.
  if (!record) return []
  return [record, ...imagesOfSnapshots(layer, record)].flatMap(({ image, keptImages = [] }) =>
    [image, ...keptImages].map(({ id }) => id),
  )
}
