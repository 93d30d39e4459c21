/**
 * A published system: the boot files that the server made for a system in the root of a machine, and
 * a document about it. It lies in a directory that appears whole and never changes:
 *
 *     <directory>/system.json
 *     <directory>/boot/
 *
 * The name of the directory is the hash of the document.
 */
import { hash } from 'node:crypto'
import { lstatSync } from 'node:fs'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import * as v from 'valibot'

import { errnoOf, fileSystemError, NetimageError } from '../../errors.ts'
import { systemSchema } from '../../image/manifest.ts'
import { syncFileSystem } from '../../image/sync.ts'
import { toStorePath, type StorePath } from '../../nix/store-path.ts'
import { readSystem, type System } from '../../nixos/system.ts'
import { silentProgress } from '../../progress.ts'
import type { FileSystem } from '../../protocols/nfs/file-system.ts'
import { namesIn } from '../../roots/names-in.ts'
import { folderOf, machineOf } from '../../roots/stored-layer.ts'
import { syncDirectory } from '../../sync-directory.ts'
import { tidy, type Warn } from '../../tidy.ts'
import { listTree, treeFileSchema } from '../../tree-files.ts'
import { blessUnit } from '../candidate.ts'
import { makeBootTree, type PublishImage } from './boot-tree.ts'
import { limitTo, openPublishRoom } from './limit.ts'
import {
  findInStore,
  refused,
  resolveInRoot,
  storeFilesInRoot,
  withReasons,
  type RootView,
} from './root-files.ts'
import { createStage } from './stage.ts'

const documentSchema = v.object({
  version: v.literal(1),
  /** The image from which the machine has its files outside the store. */
  image: v.string(),
  /** Further images whose store paths the machine saw, which the system may refer to. */
  keptImages: v.array(v.string()),
  system: systemSchema,
  blesses: v.boolean(),
  boot: v.object({ files: v.array(treeFileSchema) }),
})

export interface Published {
  /** The name of the directory: SHA-256 of the document in base16. */
  id: string
  image: string
  keptImages: string[]
  system: System
  /** Whether the system itself tells that a boot is good, by a unit of our module. */
  blesses: boolean
  boot: { files: v.InferOutput<typeof treeFileSchema>[] }
  bootTree: string
}

const documentName = 'system.json'
/** Directories of systems that are not whole. */
const unfinishedName = 'unfinished'

/** Kernels, initrds and device trees of one system. */
const most = { files: 10_000, bytes: 1024 ** 3 }
/** A system and its specialisations. */
const maxEntries = 64
/**
 * Each published system keeps the images that the machine saw, so a machine that publishes again and
 * again would keep every image that it ever had.
 */
const mostKeptImages = 16

/** The directory of the systems that a machine published. */
export function publishedOf(state: string, machine: string): string {
  return join(state, 'published', folderOf(machine))
}

/**
 * Removes what an earlier server left unfinished when it was killed. To be called before the server
 * publishes systems.
 *
 * @param owns whether this process serves the machine. Others may be just publishing systems.
 */
export function removeUnfinished(
  state: string,
  owns: (machine: string) => boolean,
  warn: Warn,
): void {
  const all = join(state, 'published')
  for (const folder of namesIn(all)) {
    if (!owns(machineOf(folder))) continue
    const unfinished = join(all, folder, unfinishedName)
    // If this fails, the next publish of the machine tries it again, and reports the error.
    tidy(unfinished, warn)
  }
}

/** How many bytes a directory of published systems takes on the disk. */
export function measurePublished(directory: string): number {
  const stats = lstatSync(directory, { throwIfNoEntry: false })
  const below = stats?.isDirectory() ? namesIn(directory) : []
  return below.reduce(
    (sum, name) => sum + measurePublished(join(directory, name)),
    (stats?.blocks ?? 0) * 512,
  )
}

export interface PublishRequest {
  /** The root of the machine. It must stay open until the promise settles. */
  view: RootView & Pick<FileSystem, 'space'>
  image: PublishImage
  toplevel: StorePath
  /** The directory of the machine's published systems. */
  directory: string
  warn: (message: string) => void
  signal: AbortSignal
}

/** @throws `NetimageError` `bad-system`, `not-a-system` and others, if the system cannot be published */
export async function publish(request: PublishRequest): Promise<Published> {
  const { image, toplevel, directory, warn, signal } = request
  const view = withReasons(request.view)
  const unfinished = join(directory, unfinishedName)
  try {
    signal.throwIfAborted()
    await rm(unfinished, { recursive: true, force: true })
    const staged = join(unfinished, 'staged')
    const made = join(unfinished, 'made')
    await mkdir(staged, { recursive: true, mode: 0o700 })
    await mkdir(made, { mode: 0o700 })
    const system = await readPublishedSystem(view, toplevel)
    const takeRoom = openPublishRoom(request.view, directory)
    const limit = limitTo(most, 'the kernels, initrds and device trees of the system', takeRoom)
    const stage = createStage(view, staged, limit, signal)
    const bootTree = join(made, 'boot')
    try {
      await makeBootTree(bootTree, system, image, { stage, takeRoom, warn })
    } catch (error) {
      throw withoutPlace(error, staged)
    }
    const files = await listTree(bootTree, () => false)
    const blesses = hasFile(view, join(toplevel, blessUnit))
    const keptImages = keptImagesFor(image, warn)
    const document = { version: 1, image: image.id, keptImages, system, blesses, boot: { files } }
    const text = `${JSON.stringify(document, undefined, 2)}\n`
    await writeFile(join(made, documentName), text)
    const advice = 'If the server loses its power now, run nixos-rebuild again.'
    await syncFileSystem(made, signal, { ...silentProgress, warn }, advice)
    signal.throwIfAborted()
    const id = hash('sha256', text)
    await putInPlace(made, directory, id)
    syncDirectory(directory)
    return await openPublished(directory, id)
  } catch (error) {
    throw fileSystemError('could not make the boot files', error, {
      hint: 'Make room in the state directory, and run nixos-rebuild again.',
    })
  } finally {
    await rm(unfinished, { recursive: true, force: true })
  }
}

function keptImagesFor(
  { keptImages }: Pick<PublishImage, 'keptImages'>,
  warn: (message: string) => void,
): string[] {
  const left = keptImages.length - mostKeptImages
  if (left > 0) {
    warn(
      `The machine has store paths of ${keptImages.length} earlier images, and this system keeps those of the ${mostKeptImages} newest. To use none of the others, garbage-collect the store and update the profiles of users.`,
    )
  }
  return keptImages.slice(-mostKeptImages)
}

async function readPublishedSystem(view: RootView, toplevel: StorePath): Promise<System> {
  const found = findInStore(view, toplevel)
  if (!found) throw refused(`${toplevel} is not in the root of this machine`)
  if (found.path !== toplevel || found.attributes.kind !== 'directory') {
    throw refused(`${toplevel} is not a directory of the store`)
  }
  const system = await readSystem(storeFilesInRoot(view), toplevel)
  const [main] = system.entries
  if (main?.init !== `${toplevel}/init`) {
    throw refused(`the system ${toplevel} names ${main?.init} as its init`)
  }
  if (system.entries.length > maxEntries) {
    throw refused(
      `${toplevel} has more than ${maxEntries - 1} specialisations`,
      'Remove specialisations from its configuration.',
    )
  }
  return system
}

/** The unit may be a link to /dev/null: then nothing is started. */
function hasFile(view: RootView, path: string): boolean {
  return resolveInRoot(view, path)?.attributes.kind === 'file'
}

/** A copy has the path of the original below `staged`. Only the original says something to a person. */
function withoutPlace(error: unknown, staged: string): unknown {
  if (!(error instanceof NetimageError) || !error.message.includes(staged)) return error
  const { code, hint, details } = error
  const without = (text: string) => text.replaceAll(staged, '')
  return new NetimageError(code, without(error.message), {
    ...{ cause: error, hint: hint && without(hint), details },
  })
}

/** If the same system was published before, its directory has the same files, unless it is damaged. */
async function putInPlace(made: string, directory: string, id: string): Promise<void> {
  const place = join(directory, id)
  try {
    await rename(made, place)
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error
    if (await isWhole(directory, id)) return
    await rename(place, join(directory, unfinishedName, 'damaged'))
    await rename(made, place)
  }
}

async function isWhole(directory: string, id: string): Promise<boolean> {
  try {
    const { boot, bootTree } = await openPublished(directory, id)
    return isDeepStrictEqual(boot.files, await listTree(bootTree, () => false))
  } catch {
    return false
  }
}

const damagedHint = 'Run nixos-rebuild on the machine again, or assign an image to the machine.'

/**
 * @param id from `Published`
 * @throws `NetimageError` `bad-state` if the document is not the one that was written
 */
export async function openPublished(directory: string, id: string): Promise<Published> {
  const place = join(directory, id)
  const file = join(place, documentName)
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    throw fileSystemError(`could not read ${file}`, error, { hint: damagedHint })
  }
  const parsed =
    hash('sha256', text) === id ? v.safeParse(documentSchema, JSON.parse(text)) : undefined
  const toplevel = parsed?.success && toStorePath(parsed.output.system.toplevel)
  if (!parsed?.success || !toplevel) {
    throw new NetimageError('bad-state', `${file} is not as it was written`, {
      details: { file },
      hint: damagedHint,
    })
  }
  const { image, keptImages, system, blesses, boot } = parsed.output
  return {
    id,
    image,
    keptImages,
    system: { ...system, toplevel },
    blesses,
    boot,
    bootTree: join(place, 'boot'),
  }
}
