/** Which machines use the images of a site. */
import { explained, NetimageError } from '../../errors.ts'
import { readRecord } from '../../roots/record.ts'
import { imagesOfSnapshots } from '../../roots/snapshots.ts'
import { listLayers, type StoredLayer } from '../../roots/stored-layer.ts'
import { openSiteToRead } from '../database.ts'
import { neededImages } from '../life/life.ts'

/**
 * @param onUnreadable is told about layers and machines of which it cannot be known which images they
 *   need; these are left out
 * @returns for each id of an image: the machines that have a layer or a snapshot over the image, or
 *   that keep a generation which needs the image
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
      onUnreadable(unknown(`layer of ${layer.machine}`, error))
    }
  }
  const site = openSiteToRead(state)
  try {
    const lives = site?.lives((error) => onUnreadable(unknown(`machine ${error.machine}`, error)))
    for (const life of lives ?? []) {
      for (const id of neededImages(life)) uses(life.machine, id)
    }
  } finally {
    site?.close()
  }
  return new Map([...machines].map(([id, names]) => [id, [...names]]))
}

function unknown(what: string, error: NetimageError): NetimageError {
  const why = `it is not known which images the ${what} needs: ${error.message}`
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
