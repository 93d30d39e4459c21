/** Finds the layers of the machine and the image that a person names. */
import { join, resolve } from 'node:path'

import { NetimageError } from '../errors.ts'
import type { StoredLayer } from '../roots/stored-layer.ts'
import { becomeOwner } from './become-owner.ts'
import { machineAt } from '../site/find-machine.ts'
import { findMachine } from './site-machine.ts'

interface Flags {
  state?: string | undefined
  image?: string | undefined
}

/** @throws `NetimageError` `path-not-found` if no layer matches, `unknown-machine` */
export async function chooseLayers(
  machine: string | undefined,
  flags: Flags,
): Promise<StoredLayer[]> {
  const { listLayers } = await import('../roots/stored-layer.ts')
  const { readId } = await import('../roots/root-image.ts')
  const { readRecord } = await import('../roots/record.ts')
  const { stateDirectory } = await import('../serve/state.ts')
  const { image } = flags
  const imageDirectory = image === undefined ? undefined : resolve(image)
  // Other users must not read the files that the commands make.
  process.umask(0o077)
  const state = stateDirectory(flags.state)
  becomeOwner(join(state, 'layers'))
  const id = imageDirectory === undefined ? undefined : idIfImage(() => readId(imageDirectory))
  const all = listLayers(state)
  // A network card that was a machine of its own can have an older layer.
  const exact = machine === undefined ? undefined : machineAt(machine)
  const isExact = all.some((layer) => layer.machine === exact)
  const wanted = machine === undefined || isExact ? exact : await findMachine(state, machine)
  const found = all
    .filter((layer) => wanted === undefined || layer.machine === wanted)
    .filter((layer) => {
      if (image === undefined || layer.older === image) return true
      const known = readRecord(layer.directory)?.image
      if (known === undefined) return false
      const names = [known.name, known.directory, shortId(known.id)]
      return known.id === id || names.includes(image) || names.includes(imageDirectory ?? image)
    })
  if (found.length > 0 || (machine === undefined && image === undefined)) return found
  const over = image === undefined ? '' : ` over the image ${image}`
  throw new NetimageError(
    'path-not-found',
    `${machine ?? 'no machine'} has no layer${over} in ${state}`,
    {
      details: { file: state, ...(machine !== undefined && { expected: machine }) },
      hint: 'List all layers with: netimage layers list.',
    },
  )
}

/** Machines run from the image of the site, and the person may name the source of that image. */
function idIfImage(read: () => string): string | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof NetimageError) return undefined
    throw error
  }
}

/**
 * As `chooseLayers`, but without the layers of earlier versions that the machine's layer has replaced,
 * unless the person names an image.
 */
export async function chooseUsedLayers(machine: string, flags: Flags): Promise<StoredLayer[]> {
  const { withoutReplaced } = await import('../roots/stored-layer.ts')
  const layers = await chooseLayers(machine, flags)
  return flags.image === undefined ? withoutReplaced(layers) : layers
}

/** @throws `NetimageError` `path-not-found`, `bad-usage` if the machine has several */
export async function chooseLayer(machine: string, flags: Flags): Promise<StoredLayer> {
  const [first, ...others] = await chooseUsedLayers(machine, flags)
  if (first && others.length === 0) return first
  const names = [first, ...others].map((layer) => layer?.older)
  throw new NetimageError('bad-usage', `${machine} has several layers`, {
    details: { field: 'image' },
    hint: `Name the image with --image: ${names.filter((name) => name !== undefined).join(', ')}.`,
  })
}

/** As `list` shows it. */
export function shortId(id: string): string {
  return id.slice(0, 16)
}
