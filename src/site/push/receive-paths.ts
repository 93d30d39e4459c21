/** Takes store paths from a sender into the store of a site. */
import { lstatSync, renameSync } from 'node:fs'
import { basename } from 'node:path'

import { explained, NetimageError } from '../../errors.ts'
import { storedAt, type SitePlaces } from '../../image/site-places.ts'
import { formatHash } from '../../nix/hash.ts'
import type { PathInfo } from '../../nix/path-info.ts'
import { unpackNar } from '../../pool/receive.ts'
import type { Progress } from '../../progress.ts'
import { syncDirectory } from '../../sync-directory.ts'
import { tidy } from '../../tidy.ts'
import { whileChanging, type Scratch } from '../images/changing.ts'
import { renewComing } from '../images/coming.ts'
import { syncStore } from '../images/fill-store.ts'
import { badMessage, type ToSender } from './channel.ts'

/** What is finished in this many NAR bytes counts, even if this process is killed. */
const batchBytes = 128 * 1024 ** 2

export interface Receiving {
  /** The state directory, and its places. */
  state: string
  places: SitePlaces
  /** The id of the image that is marked as coming. */
  id: string
  scratch: Scratch
  signal: AbortSignal
  progress: Progress
}

/**
 * Others may change the images of the site meanwhile. What is finished when this fails stays in the store.
 *
 * @param wanted as the sender was told, in this order
 */
export async function receivePaths(
  wanted: readonly PathInfo[],
  channel: ToSender,
  receiving: Receiving,
): Promise<void> {
  const { places, id, signal } = receiving
  const finished: PathInfo[] = []
  let bytes = 0

  async function publishFinished(signal: AbortSignal): Promise<void> {
    if (finished.length === 0) return
    await publish(finished.splice(0), { ...receiving, signal })
    bytes = 0
  }

  try {
    for (const info of wanted) {
      await receivePath(info, channel, unfinishedAt(receiving, info))
      renewComing(places, id)
      finished.push(info)
      bytes += info.narSize
      if (bytes >= batchBytes) await publishFinished(signal)
    }
    await publishFinished(signal)
  } catch (error) {
    // If this is not possible either, the next push sends them again.
    await publishFinished(new AbortController().signal).catch(() => {})
    throw error
  }
}

function unfinishedAt({ scratch, places }: Receiving, { narHash }: PathInfo): string {
  return scratch.inStore(basename(storedAt(places, narHash)))
}

/** After a loss of power, each path that has its name is whole. */
async function publish(batch: readonly PathInfo[], receiving: Receiving): Promise<void> {
  const { state, places, signal, progress } = receiving
  await syncStore(places, signal, progress)
  await whileChanging(state, { signal, progress }, () => {
    for (const info of batch) {
      const [unfinished, place] = [unfinishedAt(receiving, info), storedAt(places, info.narHash)]
      // Somebody else can have brought it meanwhile.
      const isThere = lstatSync(place, { throwIfNoEntry: false }) !== undefined
      if (isThere) tidy(unfinished, (message) => progress.warn(message))
      else renameSync(unfinished, place)
    }
    syncDirectory(places.store)
  })
}

async function receivePath(info: PathInfo, channel: ToSender, unfinished: string): Promise<void> {
  const { narHash, narSize } = info
  const message = await channel.message()
  if (message.kind !== 'path' || message.narHash !== formatHash(narHash)) {
    throw badMessage('the sender', `it sends another store path than ${info.path}`)
  }
  const unpacking = unpackNar(unfinished, info, false)
  try {
    for await (const piece of channel.pieces(narSize, info.path)) unpacking.write(piece)
    unpacking.end()
  } catch (error) {
    throw isOfContent(error) ? asSent(error, info) : error
  } finally {
    unpacking.abandon()
  }
}

const ofContent = new Set(['bad-nar', 'hash-mismatch', 'size-mismatch'])

function isOfContent(error: unknown): error is NetimageError {
  return error instanceof NetimageError && ofContent.has(error.code)
}

function asSent(error: NetimageError, { path }: PathInfo): NetimageError {
  const why = `${path} did not arrive as the manifest says: ${error.message}`
  const hint =
    'The connection or the sender has changed it. Run this again; if it happens again, check the image at the sender: netimage verify.'
  return explained(error, why, { path }, hint)
}
