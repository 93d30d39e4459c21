/** The identifiers of the boots of a machine: a layer remembers the boot for which it was bound. */
import { randomUUID } from 'node:crypto'

const mark = '+'

/**
 * An identifier for a boot that could not be recorded. A server that is started under the running
 * machine knows only the boot before, so both must be the same for it.
 *
 * @param last the last recorded boot
 */
export function unrecordedAfter(last: string): string {
  return `${last}${mark}${randomUUID()}`
}

/** Whether a layer that was bound for one boot is opened in the same boot, as far as the server knows. */
export function isSameBoot(bound: string, opened: string): boolean {
  return bound === opened || bound.startsWith(`${opened}${mark}`)
}

/** The attempt of a boot, or the last recorded one before it. NaN for an identifier of no attempt. */
export function attemptOf(id: string): number {
  const [recorded] = id.split(mark)
  return Number(recorded)
}
