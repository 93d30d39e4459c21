/** Names what applying a plan depends on: if the site has changed since, the digest is another one. */
import { hash } from 'node:crypto'

import { isPlainObject } from '../../plain-object.ts'
import type { PlannedGroup, PlannedName } from './planned.ts'

/**
 * What was only shown does not count: differences, findings, how long machines have been away, and how the
 * file names an image.
 */
export function digestOf(groups: readonly PlannedGroup[], names: readonly PlannedName[]): string {
  const counted = groups.map(
    ({
      image,
      machines,
      system: _system,
      changes: _changes,
      findings: _findings,
      ...settings
    }) => ({
      ...settings,
      image: image.id,
      machines: machines.map(({ away: _away, isHeld: _held, ...machine }) => machine),
    }),
  )
  return hash('sha256', canonicalJson({ groups: counted, names }))
}

/** The same data have the same text: the keys of objects are sorted. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) =>
    isPlainObject(each)
      ? Object.fromEntries(
          Object.entries(each).toSorted(([one], [other]) => (one < other ? -1 : 1)),
        )
      : each,
  )
}
