/**
 * The receiving side of a push: the site of another server gets images from a sender, who may say anything.
 *
 * What the sender says counts only if it fits the manifest of the image, and the image is named by the
 * hash of its manifest. As with `addImage`, each store path is hashed before it counts, an image is in the
 * site whole or not at all, and store paths that are finished stay.
 */
import { createHash } from 'node:crypto'
import { lstatSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'

import { asNetimageError, explained, fileSystemError, NetimageError } from '../../errors.ts'
import { parseManifest, type ReadImage } from '../../image/manifest.ts'
import { formatHash } from '../../nix/hash.ts'
import { silentProgress, type Progress } from '../../progress.ts'
import { version } from '../../version.ts'
import { addRest } from '../images/add-image.ts'
import { whileChanging } from '../images/changing.ts'
import { sortPaths } from '../images/fill-store.ts'
import { mustBeServable } from '../images/servable.ts'
import type { Who } from '../log/entry.ts'
import { noteInSite } from '../log/note-in-site.ts'
import { badMessage, CutOff, openChannel, type ToSender } from './channel.ts'
import { mustBeOneOfThisVersion } from './hello.ts'
import { mustBeTrees, receiveOutside } from './receive-outside.ts'
import { receivePaths } from './receive-paths.ts'
import { asFailed, asTold, messageSchemas, pushVersion } from './messages.ts'

export interface ReceiveSettings {
  input: Readable
  output: Writable
  signal: AbortSignal
  /** If the sender does nothing for so long, it counts as gone: other changes of the images wait for it. */
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
    await channel.say({ kind: 'hello', push: pushVersion, netimage: version })
    mustBeOneOfThisVersion(await channel.message(), other)
    const site = await open()
    for (;;) {
      const message = await channel.message()
      if (message.kind === 'end') return undefined
      if (message.kind !== 'image')
        throw badMessage(other, `${message.kind} came in place of image`)
      await receiveImage(site, message, channel, signal)
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

async function receiveImage(
  { state, person: who }: OpenedSite,
  announced: { id: string; manifestBytes: number },
  channel: ToSender,
  signal: AbortSignal,
): Promise<void> {
  const image = await receiveManifest(announced, channel)
  const progress = tellWarnings(channel)
  const isNew = await whileChanging(state, { signal, progress }, async (places) => {
    const isNew = !lstatSync(join(places.images, image.id), { throwIfNoEntry: false })
    const { missing } = sortPaths(image.closure, places)
    const paths = missing.map(({ narHash }) => formatHash(narHash))
    await channel.say({ kind: 'want', isNew, paths })
    await receivePaths(missing, channel, { places, signal, progress })
    if (!isNew) return false
    const entry = { image: image.id, imageName: image.options.rootDirectoryName } as const
    await addRest(image, places, {
      signal,
      progress: { ...silentProgress, warn: (message) => progress.warn(message) },
      note: () => noteInSite(state, { at: Date.now(), who, entry: { kind: 'added', ...entry } }),
      fill: (directory) => receiveOutside(image, channel, directory),
    })
    return true
  })
  await channel.say({ kind: 'added', isNew })
}

async function receiveManifest(
  { id, manifestBytes: size }: { id: string; manifestBytes: number },
  channel: ToSender,
): Promise<SentImage> {
  const pieces: Buffer[] = []
  for (let left = size; left > 0;) {
    const piece = await channel.data()
    if (piece.length > left) throw badMessage(other, 'a manifest is longer than announced')
    pieces.push(piece)
    left -= piece.length
  }
  const manifestBytes = Buffer.concat(pieces)
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
