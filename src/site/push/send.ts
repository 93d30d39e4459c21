/** The sender of a push: images of this site go to the site of another server. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'

import { asNetimageError, fileSystemError } from '../../errors.ts'
import { manifestName } from '../../image/layout.ts'
import { storedAt, type SitePlaces } from '../../image/site-places.ts'
import { formatHash } from '../../nix/hash.ts'
import type { PathInfo } from '../../nix/path-info.ts'
import { plural, type Progress, type Task } from '../../progress.ts'
import type { SiteImage } from '../images/site-image.ts'
import { badMessage, CutOff, mustBe, openChannel, type ToReceiver } from './channel.ts'
import { greet } from './hello.ts'
import { asFailed, messageSchemas, type FromReceiver } from './messages.ts'
import { sendOutside } from './send-outside.ts'
import { sendPath } from './send-path.ts'

export interface SendSettings {
  input: Readable
  output: Writable
  signal: AbortSignal
  progress: Progress
  /** The name of the other server, for errors. */
  server: string
}

export interface SentImage {
  id: string
  name: string
  /** Whether the other server did not have the image. */
  isNew: boolean
  sentPaths: number
  /** The bytes of their NARs. */
  sentBytes: number
  /** Store paths that the other server had. */
  skippedPaths: number
  skippedBytes: number
}

export interface Sent {
  images: SentImage[]
  /** All bytes that were written to the other server. */
  writtenBytes: number
}

/**
 * @param images are held by the caller
 * @param places of this site
 * @throws `NetimageError`: `CutOff` if the other server ended without a word why; the failure that it
 *   says; `image-damaged` if this site is damaged; `remote-failed`, `bad-message`
 */
export async function sendImages(
  images: readonly SiteImage[],
  places: SitePlaces,
  { input, output, signal, progress, server }: SendSettings,
): Promise<Sent> {
  const failing = new AbortController()
  const channel: ToReceiver = openChannel({
    ...{ input, output, other: server, schema: messageSchemas.fromReceiver },
    signal: AbortSignal.any([signal, failing.signal]),
  })
  const sent: SentImage[] = []
  try {
    await greet(channel, server)
    for (const image of images) {
      sent.push(await sendImage(image, { places, channel, progress, server, failing }))
    }
    await channel.say({ kind: 'end' })
    return { images: sent, writtenBytes: channel.written() }
  } catch (cause) {
    const error = cause instanceof CutOff ? await lastWord(channel, cause) : cause
    const known = asNetimageError(fileSystemError('could not read the site', error))
    // The other server may be gone, or may have said why it ends.
    if (!(error instanceof CutOff)) await channel.say(asFailed(known)).catch(() => {})
    throw known
  }
}

/** Why the other server has ended the connection, if it has said so. */
async function lastWord(channel: ToReceiver, cut: CutOff): Promise<unknown> {
  try {
    for (let told = 0; told < mostTold; told++) await channel.message()
    return cut
  } catch (error) {
    return error
  }
}

interface Sending {
  places: SitePlaces
  channel: ToReceiver
  progress: Progress
  server: string
  failing: AbortController
}

async function sendImage(image: SiteImage, sending: Sending): Promise<SentImage> {
  const { channel, places, progress, server } = sending
  const { id, directory, options, closure } = image
  const manifest = readFileSync(join(directory, manifestName))
  await channel.say({ kind: 'image', id, manifestBytes: manifest.length })
  await giveAll(manifest, channel)
  const want = await answerOf('want', sending)
  const wanted = choose(want.paths, closure, server)
  const name = `${options.rootDirectoryName} (${image.system.label})`
  const all = new Map(closure.map((info) => [formatHash(info.narHash), info]))
  const total = { paths: wanted.length, bytes: narBytes(wanted) }
  const task = progress.begin(`sending ${name} to ${server}`, total)
  await whileListening(sending, async () => {
    const done = { paths: 0, bytes: 0 }
    const more = (bytes: number) => tell(task, done, { bytes })
    for (const info of wanted) {
      await sendPath(info, storedAt(places, info.narHash), channel, more)
      tell(task, done, { paths: 1 })
    }
    if (want.isNew) await sendOutside(image, channel)
  })
  const skipped = all.size - wanted.length
  task.end(
    want.isNew || wanted.length > 0
      ? `sent ${name}: ${plural(wanted.length, 'store path')}; ${server} had ${skipped}`
      : `${server} had ${name} already`,
  )
  return {
    ...{ id, name: options.rootDirectoryName, isNew: want.isNew },
    ...{ sentPaths: wanted.length, sentBytes: total.bytes },
    ...{ skippedPaths: skipped, skippedBytes: narBytes([...all.values()]) - total.bytes },
  }
}

function tell(task: Task, done: { paths: number; bytes: number }, { paths = 0, bytes = 0 }): void {
  done.paths += paths
  done.bytes += bytes
  task.update(done)
}

const pieceBytes = 2 ** 18

async function giveAll(bytes: Buffer, channel: ToReceiver): Promise<void> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    await channel.give(bytes.subarray(at, at + pieceBytes))
  }
}

const mostTold = 1000

/** The next answer, without what the other server only tells. */
async function answerOf<Kind extends 'want' | 'added'>(
  kind: Kind,
  { channel, progress, server }: Sending,
): Promise<Extract<FromReceiver, { kind: Kind }>> {
  for (let told = 0; told < mostTold; told++) {
    const message = await channel.message()
    if (message.kind !== 'told') return mustBe<FromReceiver, Kind>(message, kind, server)
    progress.warn(`${server}: ${message.text}`)
  }
  throw badMessage(server, 'it tells too much')
}

/**
 * Sends, and ends at once if the other server says that it has failed. Then waits until it has the image.
 */
async function whileListening(sending: Sending, send: () => Promise<void>): Promise<void> {
  const answer = answerOf('added', sending)
  answer.catch((error: unknown) => sending.failing.abort(error))
  try {
    await send()
  } catch (error) {
    // The other server may have said why it reads nothing any more.
    if (error instanceof CutOff) await answer
    throw error
  }
  await answer
}

/** @returns each store path once @throws `NetimageError` `bad-message` */
function choose(
  hashes: readonly string[],
  closure: readonly PathInfo[],
  server: string,
): PathInfo[] {
  const left = new Map(closure.map((info) => [formatHash(info.narHash), info]))
  return hashes.map((hash) => {
    const info = left.get(hash)
    if (!info) throw badMessage(server, `it wants ${hash}, which the image has not, or twice`)
    left.delete(hash)
    return info
  })
}

function narBytes(paths: readonly PathInfo[]): number {
  return paths.reduce((sum, { narSize }) => sum + narSize, 0)
}
