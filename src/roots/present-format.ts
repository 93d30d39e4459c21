/** Brings the contents of layers of format 1 to the present format. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { NetimageError } from '../errors.ts'
import { syncDirectory, syncDirectorySoon } from '../sync-directory.ts'
import { OlderFormat } from './database-file.ts'
import { databaseFile, openLayerDatabase } from './database.ts'
import { findInSteps } from './find-image.ts'
import type { ImageIndex } from './image-index.ts'
import { migrateContents } from './migrate.ts'
import { giveToOwnerOf } from './owner.ts'
import { newName, writeRecordInSteps, type LayerRecord } from './record.ts'
import { giveUpReserveOf } from './reserve.ts'
import { doNow, waitFor, type Steps } from './steps.ts'
import { sweep } from './sweep.ts'

/**
 * Uses the contents of a layer. Contents of format 1 are migrated first, and the new ones become the
 * current ones.
 *
 * @param directory of a layer whose lock the caller holds
 * @param index of any image: it is used if it is the image of the contents
 * @param use opens the contents in this directory
 * @returns also the record of the contents that were used
 */
export function* useContents<T>(
  directory: string,
  record: LayerRecord,
  index: ImageIndex,
  use: (contents: string) => Steps<T>,
): Steps<{ record: LayerRecord; result: T }> {
  const contents = join(directory, record.name)
  try {
    return { record, result: yield* use(contents) }
  } catch (error) {
    if (!(error instanceof OlderFormat)) throw error
  }
  // Migrations that failed before may have left contents, which take room.
  sweep(directory, () => {})
  const migrated = yield* migrateBeside(directory, record, index)
  try {
    yield* writeRecordInSteps(directory, migrated)
  } catch (error) {
    giveUpReserveOf(contents, error)
    yield* writeRecordInSteps(directory, migrated)
  }
  return { record: migrated, result: yield* use(join(directory, migrated.name)) }
}

/**
 * Makes sure that contents can be opened before they become the current ones. Contents of format 1 are
 * migrated.
 *
 * @param directory of a layer whose lock the caller holds
 * @param record of the contents, not written yet
 * @returns the record to write
 * @throws `NetimageError` `bad-state`; an error of the image or of the database
 */
export function makeReady(directory: string, record: LayerRecord): LayerRecord {
  const contents = join(directory, record.name)
  if (!existsSync(databaseFile(contents))) return record
  try {
    openLayerDatabase(contents).close()
    return record
  } catch (error) {
    if (!(error instanceof OlderFormat)) throw error
  }
  return doNow(migrateBeside(directory, record))
}

/**
 * Migrates contents with their own image. The new contents have another name, so that handles of running
 * machines, whose numbers mean other nodes now, are stale.
 *
 * @returns the record of the new contents, which is not written yet
 */
function* migrateBeside(
  directory: string,
  record: LayerRecord,
  index?: ImageIndex,
): Steps<LayerRecord> {
  const { image } = record
  using stack = new DisposableStack()
  // The image as it was built comes first, because the store paths are in its root tree.
  const found = yield* findInSteps(image)
  if (found) stack.defer(() => found.close())
  const own = found ?? (index?.id === image.id ? index : undefined)
  if (!own) throw imageMissing(record)
  const migrated = { ...record, name: newName() }
  const [before, contents] = [join(directory, record.name), join(directory, migrated.name)]
  try {
    yield* migrateContents(before, contents, own)
  } catch (error) {
    giveUpReserveOf(before, error)
    yield* migrateContents(before, contents, own)
  }
  giveToOwnerOf(directory, contents)
  // The name of the contents must be on the disk before the record that refers to it.
  yield* waitFor(
    () => syncDirectory(directory),
    () => syncDirectorySoon(directory),
  )
  return migrated
}

function imageMissing({ machine, image }: LayerRecord): NetimageError {
  const { directory, id } = image
  return new NetimageError(
    'bad-state',
    `an older netimage made the files of ${machine} over the image ${directory}, which is not there any more`,
    {
      details: { file: directory, expected: id },
      hint: 'Put that image back, and try again. Nothing is lost. Or, if the machine does not boot, remove what it wrote: netimage layers reset.',
    },
  )
}
