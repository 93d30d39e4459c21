/** Reads in the root of a machine that does not run, as it was at its last boot. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import type { FileSystem } from '../protocols/nfs/file-system.ts'
import { databaseFile } from './database.ts'
import { openLastImages } from './last-images.ts'
import { openLayerInSteps } from './layer.ts'
import { useContents } from './present-format.ts'
import { readRecord } from './record.ts'
import { doNow } from './steps.ts'
import type { StoredLayer } from './stored-layer.ts'

/**
 * Brings the layer to the present format.
 *
 * @param layer whose lock the caller holds
 * @returns undefined if the layer has no contents yet
 * @throws as `openLastImages`; `NetimageError` `bad-state`; errors of the action
 */
export async function readStored<T>(
  layer: StoredLayer,
  action: (fileSystem: FileSystem) => T,
): Promise<T | undefined> {
  const record = readRecord(layer.directory)
  if (!record || !existsSync(databaseFile(join(layer.directory, record.name)))) return undefined
  const index = openLastImages(layer, record)
  try {
    const steps = useContents(layer.directory, record, index, (contents) =>
      openLayerInSteps(contents, index),
    )
    const opened = doNow(steps).result
    try {
      return action(opened.fileSystem)
    } finally {
      await opened.close()
    }
  } finally {
    index.close()
  }
}
