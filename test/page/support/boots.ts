// Boots as a server sees and records them.

import assert from 'node:assert/strict'
import { useBootDatabase } from '../../../src/boots/database.ts'
import type { Boot } from '../../../src/boots/follow.ts'
import { recordBoots } from '../../../src/boots/record.ts'
import type { ServeEvent } from '../../../src/protocols/event.ts'

/** A boot of a machine that came up within nine seconds. */
export function bootOf(machine: string, more: Partial<Boot> = {}): Boot {
  const started = Date.now() - 20_000
  return {
    ...{ machine, started, step: 'registered', lastSign: started + 9000, bytes: 42 },
    steps: { dhcp: started, kernel: started + 1000, registered: started + 9000 },
    ...more,
  }
}

export function record(state: string, boots: readonly (readonly [Boot, ...ServeEvent[]])[]): void {
  const database = useBootDatabase(state, assert.ifError, (opened) => opened)
  const written = recordBoots(database, assert.ifError)
  for (const [boot, ...events] of boots) {
    for (const event of events) written.add(boot, event, boot.lastSign, true)
  }
  written.flush()
  database.close()
}
