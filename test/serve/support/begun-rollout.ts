// A roll-out that a person has begun.

import assert from 'node:assert/strict'
import { openSiteDatabase } from '../../../src/site/database.ts'
import type { RestartCommands, RolloutSettings } from '../../../src/site/rollout/rollout.ts'
import { beginRollout } from '../../../src/site/rollout/rollouts.ts'
import { openSite } from '../../../src/site/site.ts'
import { candidate } from '../../site/life/support/simulate.ts'
import { group, settings } from '../../site/rollout/support/simulate.ts'

/** A site whose machines run an image, and the roll-out of another one. No server has run since. */
export async function begunRollout(
  state: string,
  names: readonly string[],
  restart: ReadonlyMap<string, RestartCommands> = new Map(),
  more: Partial<RolloutSettings> = {},
): Promise<string> {
  const site = openSite({ state, at: 0, onTold: () => {}, onError: assert.ifError })
  for (const name of names) {
    await site.beginAttempt(name, 0, { byDefault: candidate('old') })
    site.sign(name, { kind: 'asks' }, 0)
    site.sign(name, { kind: 'bless', bootId: name, toplevel: candidate('old').toplevel }, 0)
  }
  for (let at = 0; at <= 180_000; at += 60_000) site.tick(at)
  for (const name of names) site.sign(name, { kind: 'alive' }, 180_000)
  site.close(180_000)
  const database = openSiteDatabase(state)
  database.change((writer) => {
    writer.rollouts.setGroups(new Map(names.map((name) => [name, group])))
    const now = { at: 0, uptime: writer.uptime() }
    beginRollout(writer, settings([names], more), restart, now)
  })
  database.close()
  return state
}
