/**
 * Binds a layer to images at a boot of its machine: to one image whose files outside the store paths
 * the machine sees, and to the store paths of this image and of others. What the machine changed
 * outside /nix/store stays, what it did not change follows the image, and what it changed in the
 * store paths of images is undone. docs/layers.md has the rules.
 *
 * All of it is one transaction, or done in a copy of the database if it would take long: see
 * unfinished-binding.ts. New files with data are on the disk before the commit, and files without a row are removed
 * when the layer is opened. So after a kill or a loss of power, the layer is bound either as before or anew.
 */
import { randomUUID } from 'node:crypto'

import { makeDirectory } from '../make-directory.ts'
import { removeBootFiles, type BootFilePath } from './bind-boot-files.ts'
import { giveSiteFiles, type SiteFiles } from './bind-site-files.ts'
import { isSameBoot } from './boot-id.ts'
import { readBound, readKept, writeBound, writeKept, type Bound } from './bind-record.ts'
import { createGiven, type BindWork } from './bind-work.ts'
import type { Steps } from './steps.ts'
import { mergeOutside } from './bind-outside.ts'
import { undoStore, type Undone } from './bind-store.ts'
import { createDataCopies, type DataCopies, type Spaces } from './bind-data.ts'
import {
  boundFilesOf,
  readBoundFiles,
  storePathsHash,
  writeBoundFiles,
  type BoundFile,
} from './bound-files.ts'
import type { BoundImage, KeptImage } from './bound-image.ts'
import { dataFolder } from './data-files.ts'
import type { LayerDatabase } from './database.ts'
import { outside, type ImageIndex } from './image-index.ts'
import { changedImage } from './lay-over.ts'
import type { InTransactions } from './in-transaction.ts'
import { addKept, createKept } from './kept-files.ts'
import { createLayerImage, type LayerImage } from './layer-image.ts'
import { giveNumbersInSteps } from './numbering.ts'
import { UnpreparedCopies } from './prepare-copies.ts'
import { openRoom } from './room.ts'
import { finish } from './unfinished-binding.ts'
import { measureInSteps } from './usage.ts'
import { countLinks, countStoreLinks } from './bind-links.ts'

export interface Binding {
  /** Whether only a layer that was last bound with this identifier may be opened. Default: no. */
  onlySame?: boolean
  /** Whether only a layer that was last bound to these images may be opened, as it is. Default: no. */
  isBound?: boolean | undefined
  /**
   * A layer that is bound with this identifier already is left as it is. Undefined: the layer is only
   * bound anew if it was bound to other images.
   */
  boot: string | undefined
  image: BoundImage
  /** The further images of the index. */
  keptImages: readonly KeptImage[]
  /** The image of a layer that does not know to which image it was bound. */
  imageBefore: BoundImage | undefined
  /** Files that say something of one boot. A layer that is bound for another boot loses them. */
  bootFiles?: readonly BootFilePath[] | undefined
  /** What a layer that is bound for another boot is given. */
  siteFiles?: (() => SiteFiles) | undefined
  /**
   * The index of the images that the layer was bound to before; undefined if the first of them cannot
   * be had. The caller closes the index.
   */
  indexOf: (image: BoundImage, keptImages: readonly KeptImage[]) => Steps<ImageIndex | undefined>
}

/** A layer was last bound with another identifier or to other images, and this is not wanted. */
export class BoundOtherwise extends Error {}

/** As in `LayerOptions`. */
export interface BindLimit {
  most: number | undefined
  takenElsewhere: () => number
}

/**
 * @param directory of the contents of the layer
 * @throws `BoundOtherwise`; `NetimageError` `bad-state`, `disk-full`, errors of the images, a system error or one of
 *   the database; the layer is as before then. `UnreadyLayer`, which may go on to use the database and the index
 */
export function* bindLayer(
  database: LayerDatabase,
  directory: string,
  index: ImageIndex,
  binding: Binding,
  limit: BindLimit,
): Steps {
  const bound = readBound(database)
  const isKnown =
    bound !== undefined && binding.boot !== undefined && isSameBoot(bound.boot, binding.boot)
  if (binding.onlySame && !isKnown) throw new BoundOtherwise()
  const paths = storePathsHash(index)
  const { image: imageBefore } = bound ?? { image: binding.imageBefore }
  const isSameImage = imageBefore?.id === index.id
  // A layer of an earlier version has the store paths of one image.
  const isSame = isSameImage && (!bound || bound.paths === paths)
  if (isSame && bound && (binding.boot === undefined || isKnown)) return
  if (binding.isBound) throw new BoundOtherwise()
  const structure = index.structureOf(outside)
  const known = database.readMeta('structure')
  if (isSameImage && known !== undefined && known !== structure) throw changedImage(directory)

  const changes = { bound, imageBefore, isKnown, isSame, isSameImage, paths, structure }
  const layer = { database, directory, index, binding, limit }
  yield* finish(database, directory, (used, inTransactions) =>
    bindInSteps({ ...layer, database: used }, changes, inTransactions),
  )
}

interface LayerToBind {
  database: LayerDatabase
  directory: string
  index: ImageIndex
  binding: Binding
  limit: BindLimit
}

/** How the layer was last bound, and what is not so any more. */
interface Changes {
  bound: Bound | undefined
  imageBefore: BoundImage | undefined
  /** Whether the layer is bound with this identifier already. */
  isKnown: boolean
  /** Whether the images and their store paths are the same as before. */
  isSame: boolean
  isSameImage: boolean
  /** See `storePathsHash`. */
  paths: string
  structure: string
}

/** Undoes all if it is ended before. */
function* bindInSteps(layer: LayerToBind, changes: Changes, inTransactions: InTransactions): Steps {
  const { database, directory, binding, limit } = layer
  const { bound, imageBefore } = changes

  function* openImages(): Steps<ImageIndex | undefined> {
    return imageBefore && (yield* binding.indexOf(imageBefore, bound?.keptImages ?? []))
  }

  using opened = new DisposableStack()
  const before = opened.use(openBefore(database, openImages()))
  const folder = dataFolder(directory)
  makeDirectory(folder)
  const data = createDataCopies(folder, () => spacesOf(directory, database, limit))

  function* bind(): Steps {
    yield* changeRows(layer, changes, before, data)
    const missing = data.missing()
    if (missing.length > 0) throw new UnpreparedCopies(folder, missing)
    yield* data.finish()
  }

  try {
    yield* inTransactions(database, bind())
  } catch (error) {
    if (error instanceof UnpreparedCopies) error.held.use(opened.move())
    throw error
  }
}

function* changeRows(
  { database, index, binding }: LayerToBind,
  { bound, isKnown, isSame, isSameImage, paths, structure }: Changes,
  before: Before,
  data: DataCopies,
): Steps {
  const given = createGiven(database)
  const kept = createKept()
  // In the transaction: by themselves, numbers would have to be on the disk before they are used.
  const numbering = yield* giveNumbersInSteps(index, database)
  const now = createLayerImage(index, numbering)
  const work: BindWork = { database, now, before: before.image, data, given, kept }
  const isPathsChanged = !isSame
  // A machine may run since before the update of netimage.
  const runs = isSame && binding.boot === undefined
  const undone = runs ? nothing : yield* undoStore({ ...work, index, isPathsChanged })
  if (!bound && isSameImage) {
    yield* writeBoundFiles(database, yield* boundFilesOf(index, numbering))
  }
  if (!isSameImage) {
    const filesBefore = yield* boundFilesBefore(database, before)
    const files = yield* boundFilesOf(index, numbering)
    yield* mergeOutside({ ...work, filesBefore, files })
    yield* writeBoundFiles(database, files)
    database.writeMeta('structure', structure)
  }
  const told = kept.all()
  if (!isSameImage || told.files.length > 0) {
    writeKept(database, isSameImage ? addKept(told, readKept(database)) : told)
  }
  const { bootFiles = [], siteFiles, image, keptImages } = binding
  let isCut = !isKnown && (yield* removeBootFiles(work, bootFiles))
  if (!isKnown && siteFiles) isCut = (yield* giveSiteFiles(work, siteFiles())) || isCut
  if (!isSameImage || undone.outside || isCut) yield* countLinks({ ...work, index })
  else if (undone.store || isPathsChanged) yield* countStoreLinks({ ...work, index })
  given.write()
  const boot = binding.boot ?? bound?.boot ?? randomUUID()
  writeBound(database, { boot, image, keptImages, paths })
}

/** The room on the disk without and with the limit of the layer. */
function* spacesOf(
  directory: string,
  database: LayerDatabase,
  { most, takenElsewhere }: BindLimit,
): Steps<Spaces> {
  let files = 0
  // Only a limit counts what is there already.
  for (const folder of most === undefined ? [] : [directory, dataFolder(directory)]) {
    files += yield* measureInSteps(folder)
  }
  const measure = () => ({ all: files + takenElsewhere(), reusable: database.reusableBytes() })
  const disk = openRoom({ directory, most: undefined, measure }).space()
  const limit = openRoom({ directory, most, measure }).space()
  return { disk, limit }
}

const nothing: Undone = { store: false, outside: false }

/** The image before, opened only if something of it is needed. */
interface Before extends Disposable {
  image: () => Steps<LayerImage | undefined>
  index: () => Steps<ImageIndex | undefined>
}

function openBefore(database: LayerDatabase, openImages: Steps<ImageIndex | undefined>): Before {
  let opened: { index: ImageIndex | undefined; image?: LayerImage } | undefined
  function* index(): Steps<ImageIndex | undefined> {
    opened ??= { index: yield* openImages }
    return opened.index
  }
  return {
    index,
    *image() {
      const ofImage = yield* index()
      // All its files have numbers already, so nothing is written here.
      if (ofImage && opened)
        opened.image ??= createLayerImage(ofImage, yield* giveNumbersInSteps(ofImage, database))
      return opened?.image
    },
    [Symbol.dispose]: () => opened?.index?.close(),
  }
}

/** @returns undefined if it is not known what the image brought */
function* boundFilesBefore(
  database: LayerDatabase,
  before: Before,
): Steps<BoundFile[] | undefined> {
  const known = yield* readBoundFiles(database)
  if (known.length > 0) return known
  // A layer of an earlier version.
  const ofImage = yield* before.index()
  return ofImage && (yield* boundFilesOf(ofImage, yield* giveNumbersInSteps(ofImage, database)))
}
