// An action during which a disk loses its power.

import type { Log, PoweredDisk } from '../../support/powered-disk.ts'
import { beforeDiskSteps, type DiskStep } from './disk-steps.ts'

/**
 * Runs an action on a disk whose power fails before one of the action's steps. After that, each step
 * fails.
 *
 * @param cut `at` is the number of the step among those that `counts` chooses, from 0
 * @returns the step; undefined if the action came to its end before
 */
export async function runUntilCut(
  powered: PoweredDisk,
  { at, log, counts }: { at: number; log: Log; counts: (step: DiskStep) => boolean },
  action: () => Promise<void>,
): Promise<DiskStep | undefined> {
  let [done, cutBefore]: [number, DiskStep | undefined] = [0, undefined]
  beforeDiskSteps((step) => {
    if (counts(step) && done++ === at) {
      cutBefore = step
      powered.cut(log)
    }
    // The descriptors must be closed all the same.
    if (cutBefore && step !== 'close') throw Object.assign(new Error('no power'), { code: 'EIO' })
  })
  try {
    await action()
  } catch (error) {
    if (!cutBefore) throw error
  } finally {
    beforeDiskSteps()
  }
  return cutBefore
}
