/** Tells a person once that a machine does not get its reserved address yet. */
import { NetimageError } from '../../errors.ts'
import { remember } from '../../remember.ts'
import { leaseSeconds, type Postponed } from './full.ts'

export function postponedTeller(
  onError: (error: NetimageError) => void,
): (postponed: Postponed) => void {
  const told = new Map<string, true>()
  return ({ mac, reserved, holder, given }) => {
    const key = `${mac} ${reserved} ${holder}`
    if (told.has(key)) return
    remember(told, key, true)
    onError(
      new NetimageError(
        'in-use',
        `${mac} gets ${given} for now, because ${holder} still has ${reserved}, which is reserved for ${mac}`,
        {
          details: { field: 'address', expected: reserved, actual: given },
          hint: `Restart ${holder}, which then gets another address, and ${mac} after it. If ${holder} is gone for good, its lease ends at most ${leaseSeconds / 3600} hours after it was there last: restart ${mac} then.`,
        },
      ),
    )
  }
}
