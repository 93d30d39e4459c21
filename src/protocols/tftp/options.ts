/** The negotiation of a transfer's options with the client. [RFC 2347] */
import type { Option } from './packet.ts'

export interface Agreement {
  /** Bytes of a block. */
  blockSize: number
  /** The number of blocks that are sent before an acknowledgment is awaited. */
  windowSize: number
  /** Seconds; undefined if the client did not ask for a timeout. */
  timeout: number | undefined
  /** The acknowledged options, in the order of the request; empty: no OACK is sent. */
  answer: Option[]
}

const blockSizes = { least: 8, most: 65464 }
/**
 * The most that a transfer has in memory and sends at once. This is far more than the network card
 * of a loader holds.
 */
const maxWindow = { bytes: 1 << 18, blocks: 512 }

/** @param size bytes that are sent; undefined if the size is not known, as for netascii */
export function negotiate(options: readonly Option[], size: number | undefined): Agreement {
  const asked = new Map<string, { name: string; value: number }>()
  for (const { name, value } of options) {
    const key = name.toLowerCase()
    // An option whose value is no number is ignored.
    if (!asked.has(key) && /^\d{1,15}$/.test(value)) asked.set(key, { name, value: Number(value) })
  }

  const blockSize = agreedBlockSize(asked.get('blksize')?.value)
  const windowSize = agreedWindowSize(asked.get('windowsize')?.value, blockSize ?? 512)
  const timeout = agreedTimeout(asked.get('timeout')?.value)
  const agreed = new Map([
    ['blksize', blockSize],
    ['windowsize', windowSize],
    ['timeout', timeout],
    ['tsize', size],
  ])
  const answer: Option[] = []
  for (const [key, { name }] of asked) {
    const value = agreed.get(key)
    if (value !== undefined) answer.push({ name, value: String(value) })
  }
  return { blockSize: blockSize ?? 512, windowSize: windowSize ?? 1, timeout, answer }
}

/** [RFC 2348: the answer may be less than the request, never more.] */
function agreedBlockSize(asked: number | undefined): number | undefined {
  if (asked === undefined || asked < blockSizes.least) return undefined
  return Math.min(asked, blockSizes.most)
}

/** [RFC 7440 §3: 1 to 65535; the answer may be less than the request.] */
function agreedWindowSize(asked: number | undefined, blockSize: number): number | undefined {
  if (asked === undefined || asked < 1 || asked > 0xffff) return undefined
  return Math.min(asked, maxWindow.blocks, Math.max(1, Math.floor(maxWindow.bytes / blockSize)))
}

/** [RFC 2349: 1 to 255; the answer must be equal to the request.] */
function agreedTimeout(asked: number | undefined): number | undefined {
  return asked === undefined || asked < 1 || asked > 255 ? undefined : asked
}
