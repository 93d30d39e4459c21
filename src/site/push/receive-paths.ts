/** Takes store paths from a sender into the store of a site. */
import { explained, NetimageError } from '../../errors.ts'
import type { SitePlaces } from '../../image/site-places.ts'
import { formatHash } from '../../nix/hash.ts'
import type { PathInfo } from '../../nix/path-info.ts'
import { unpackNar } from '../../pool/receive.ts'
import type { Progress } from '../../progress.ts'
import { sweep } from '../images/changing.ts'
import { publish, unfinishedAt } from '../images/fill-store.ts'
import { badMessage, type ToSender } from './channel.ts'

/** What is finished in this many NAR bytes counts, even if this process is killed. */
const batchBytes = 128 * 1024 ** 2

interface Receiving {
  places: SitePlaces
  signal: AbortSignal
  progress: Progress
}

/**
 * Only inside `whileChanging`. What is finished when this fails stays in the store.
 *
 * @param wanted as the sender was told, in this order
 */
export async function receivePaths(
  wanted: readonly PathInfo[],
  channel: ToSender,
  { places, signal, progress }: Receiving,
): Promise<void> {
  const finished: PathInfo[] = []
  let bytes = 0

  async function publishFinished(signal: AbortSignal): Promise<void> {
    if (finished.length === 0) return
    await publish(finished.splice(0), { places, signal, changed: new Set() }, progress)
    bytes = 0
  }

  try {
    for (const info of wanted) {
      await receivePath(info, channel, places)
      finished.push(info)
      bytes += info.narSize
      if (bytes >= batchBytes) await publishFinished(signal)
    }
    await publishFinished(signal)
  } catch (error) {
    // If this is not possible either, the next push sends them again.
    await publishFinished(new AbortController().signal).catch(() => {})
    throw error
  } finally {
    sweep(places, (message) => progress.warn(message))
  }
}

async function receivePath(info: PathInfo, channel: ToSender, places: SitePlaces): Promise<void> {
  const { narHash, narSize } = info
  const message = await channel.message()
  if (message.kind !== 'path' || message.narHash !== formatHash(narHash)) {
    throw badMessage('the sender', `it sends another store path than ${info.path}`)
  }
  const unpacking = unpackNar(unfinishedAt(places, info), info, false)
  try {
    for (let left = narSize; left > 0;) {
      const piece = await channel.data()
      unpacking.write(piece)
      left -= piece.length
    }
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
