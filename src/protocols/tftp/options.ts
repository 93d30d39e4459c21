/** What is agreed with a client about its transfer. [RFC 2347] */
import type { Option } from './packet.ts'

export interface Agreement {
  /** Bytes of a block. */
  blockSize: number
  /** Blocks that are sent before an acknowledgment is waited for. */
  windowSize: number
  /** Seconds, where the client asked for it. */
  timeout: number | undefined
  /** What is acknowledged, in the order in which it was asked for; empty: no OACK at all. */
  answer: Option[]
}

const blockSizes = { least: 8, most: 65464 }
/**
 * What a transfer may have on its way, and in memory: far more than a network card of a loader
 * holds, and no more than what Linux grants a socket.
 */
const maxWindow = { bytes: 1 << 18, blocks: 512 }

/** @param size of what is sent; undefined where it is not known before it is translated */
export function negotiate(options: readonly Option[], size: number | undefined): Agreement {
  const asked = new Map<string, { name: string; value: number }>()
  for (const { name, value } of options) {
    const key = name.toLowerCase()
    // Something else than a number is no value of these options.
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

/** [RFC 2348: less than what is asked for may be answered, never more.] */
function agreedBlockSize(asked: number | undefined): number | undefined {
  if (asked === undefined || asked < blockSizes.least) return undefined
  return Math.min(asked, blockSizes.most)
}

/** [RFC 7440 §3: 1 to 65535; less than what is asked for may be answered.] */
function agreedWindowSize(asked: number | undefined, blockSize: number): number | undefined {
  if (asked === undefined || asked < 1 || asked > 0xffff) return undefined
  return Math.min(asked, maxWindow.blocks, Math.max(1, Math.floor(maxWindow.bytes / blockSize)))
}

/** [RFC 2349: 1 to 255; the answer must be what was asked for.] */
function agreedTimeout(asked: number | undefined): number | undefined {
  return asked === undefined || asked < 1 || asked > 255 ? undefined : asked
}
