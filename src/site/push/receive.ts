/**
 * The receiver of a push: this site gets images from a sender, who may say anything.
 *
 * What the sender says counts only if it fits the manifest of the image, and the image is named by the
 * hash of its manifest. As with `addImage`, each store path is hashed before it counts, an image is in the
 * site whole or not at all, and store paths that are finished stay.
 */
import { createHash } from 'node:crypto'
import { lstatSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { buffer as bufferOf } from 'node:stream/consumers'

import { asNetimageError, explained, fileSystemError, NetimageError } from '../../errors.ts'
import { parseManifest, type ReadImage } from '../../image/manifest.ts'
import type { SitePlaces } from '../../image/site-places.ts'
import { formatHash } from '../../nix/hash.ts'
import { silentProgress, type Progress } from '../../progress.ts'
import { makeScratch, whileChanging } from '../images/changing.ts'
import { markComing, unmarkComing } from '../images/coming.ts'
import { sortPaths } from '../images/fill-store.ts'
import { makeRest, placeRest } from '../images/rest.ts'
import { mustBeServable } from '../images/servable.ts'
import type { Who } from '../log/entry.ts'
import { noteInSite } from '../log/note-in-site.ts'
import { CutOff, goesOnHint, mustBe, openChannel, type ToSender } from './channel.ts'
import { greet } from './hello.ts'
import { mustBeTrees, receiveOutside } from './receive-outside.ts'
import { receivePaths } from './receive-paths.ts'
import { asFailed, asTold, messageSchemas } from './messages.ts'

export interface ReceiveSettings {
  input: Readable
  output: Writable
  signal: AbortSignal
  /** If the sender does nothing for so long, it counts as gone. */
  patienceMs?: number | undefined
}

const other = 'the sender'

export interface OpenedSite {
  /** The state directory, which must be closed to other users. */
  state: string
  /** Who sends, for the log of the site. */
  person: Who
}

/**
 * Receives images until the sender says that there are no more.
 *
 * @param open if this fails, the sender is told as well
 * @returns the failure, of which the sender has been told if it can still be told something
 */
export async function receiveImages(
  open: () => Promise<OpenedSite>,
  { input, output, signal, patienceMs }: ReceiveSettings,
): Promise<NetimageError | undefined> {
  const schema = messageSchemas.fromSender
  const channel: ToSender = openChannel({
    ...{ input, output, schema, other, signal, patienceMs },
  })
  try {
    await greet(channel, other)
    const site = await open()
    for (;;) {
      const message = await channel.message()
      if (message.kind === 'end') return undefined
      await receiveImage(site, mustBe(message, 'image', other), channel, signal)
    }
  } catch (error) {
    const known = asNetimageError(fileSystemError('could not change the site', error))
    const failure = withoutRoom(known)
    // Only of use to a sender that still reads.
    if (!(error instanceof CutOff)) await channel.say(asFailed(failure)).catch(() => {})
    return failure
  }
}

const fullDiskHint =
  'Make room on that server. What was finished stays there, and the next push goes on.'

/** The usual hint is for a person who builds. */
function withoutRoom(failure: NetimageError): NetimageError {
  return failure.code === 'disk-full'
    ? explained(failure, failure.message, {}, fullDiskHint)
    : failure
}

interface SentImage extends ReadImage {
  id: string
  manifestBytes: Buffer
  /** Its name in errors. */
  directory: string
}

/** Holds the lock of the images only for moments: at the beginning, for store paths, and at the end. */
async function receiveImage(
  { state, person: who }: OpenedSite,
  announced: { id: string; manifestBytes: number },
  channel: ToSender,
  signal: AbortSignal,
): Promise<void> {
  const image = await receiveManifest(announced, channel)
  const { id, closure, options, manifestBytes } = image
  const progress = tellWarnings(channel)
  const watching = { signal, progress }
  const warn = (message: string) => progress.warn(message)
  const begun = await whileChanging(state, watching, (places) => {
    const isNew = !isInSite(places, id)
    if (isNew) markComing(places, id, manifestBytes)
    const { missing } = sortPaths(closure, places)
    return { places, isNew, missing, scratch: makeScratch(places, warn) }
  })
  const { places, isNew, missing, scratch } = begun
  try {
    const paths = missing.map(({ narHash }) => formatHash(narHash))
    await channel.say({ kind: 'want', isNew, paths })
    await receivePaths(missing, channel, { ...watching, state, places, id, scratch })
    const fill = (directory: string) => receiveOutside(image, channel, directory)
    const quiet = { ...silentProgress, warn }
    const made = isNew && (await makeRest(scratch, image, { signal, progress: quiet, fill }))
    await whileChanging(state, watching, async () => {
      // Somebody else can have added or removed it meanwhile.
      const isThere = isInSite(places, id)
      mustHaveAll(image, places, isThere || isNew)
      if (made !== false && !isThere) {
        const entry = { kind: 'added', image: id, imageName: options.rootDirectoryName } as const
        await placeRest(made, id, places, () => noteInSite(state, { at: Date.now(), who, entry }))
      }
      unmarkComing(places, id)
    })
  } finally {
    scratch.remove()
  }
  await channel.say({ kind: 'added' })
}

function isInSite({ images }: SitePlaces, id: string): boolean {
  return lstatSync(join(images, id), { throwIfNoEntry: false }) !== undefined
}

/** @param isRestThere whether all but the store paths is there */
function mustHaveAll({ id, closure }: SentImage, places: SitePlaces, isRestThere: boolean): void {
  if (isRestThere && sortPaths(closure, places).missing.length === 0) return
  const why = `parts of the image ${id} were removed from the site while it came`
  throw new NetimageError('file-system', why, { hint: goesOnHint })
}

async function receiveManifest(
  { id, manifestBytes: size }: { id: string; manifestBytes: number },
  channel: ToSender,
): Promise<SentImage> {
  const manifestBytes = await bufferOf(channel.pieces(size, 'a manifest'))
  const actual = createHash('sha256').update(manifestBytes).digest('hex')
  if (actual !== id) {
    throw new NetimageError('hash-mismatch', `the manifest of the image ${id} has another hash`, {
      details: { expected: id, actual },
      hint: 'Run this again. If it happens again, the sender is not to be trusted.',
    })
  }
  const directory = `image ${id}`
  const read = parseManifest(manifestBytes.toString(), `of the ${directory}`)
  if (read.manifest.root.format === 'tar') {
    throw new NetimageError('bad-option', `the root tree of the ${directory} is an archive`)
  }
  mustBeServable(read.options, `the ${directory}`)
  mustBeTrees(read)
  return { ...read, id, manifestBytes, directory }
}

/** The sender shows to its person what this side would show. */
function tellWarnings(channel: ToSender): Progress {
  // If the sender is gone, this is told by the next message that it does not send.
  const tell = (text: string) => void channel.say(asTold(text)).catch(() => {})
  return {
    begin(label) {
      tell(label)
      return silentProgress.begin(label)
    },
    warn: tell,
  }
}
