/** The boots that machines may go on with when the server starts again. */
import type { Boot } from '../boots/follow.ts'
import type { Attempt } from '../site/life/life.ts'

/**
 * The record of boots lacks the last moments before the server was killed, and more after a loss of
 * power. The attempts are always on the disk. So an attempt whose boot is not in the record gets one.
 * Otherwise the machine would begin another attempt with its next file, and could get the kernel and
 * the root of two generations.
 *
 * @param recorded the last boot of each machine, the newest first
 * @param interrupted by machine, the attempts that ran when the server ended
 * @returns as `recorded`
 */
export function earlierBoots(
  recorded: readonly Boot[],
  interrupted: ReadonlyMap<string, Pick<Attempt, 'startedAt' | 'step'>>,
): Boot[] {
  const missing = new Map(interrupted)
  const known = recorded.filter(({ machine, lastSign }) => {
    const attempt = missing.get(machine)
    if (!attempt) return true
    const isOfAttempt = lastSign >= attempt.startedAt
    if (isOfAttempt) missing.delete(machine)
    return isOfAttempt
  })
  const made = [...missing].map(([machine, { startedAt, step = 'loader' }]): Boot => {
    const [started, lastSign] = [startedAt, startedAt]
    return { machine, started, step, steps: {}, lastSign, bytes: 0 }
  })
  return [...known, ...made].toSorted((one, other) => other.started - one.started)
}
