// A site with a machine that has booted well.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { openSite, type Site } from '../../../src/site/site.ts'
import { candidate } from '../../site/life/support/simulate.ts'

/** A new site in which the machine has a good generation; its images are `a` and `b`. The caller closes it. */
export async function openSiteWithGood(state: string, machine: string, at: number): Promise<Site> {
  for (const image of ['a', 'b']) mkdirSync(join(state, 'images', image), { recursive: true })
  const policy = { tries: 3, deadline: 600_000, settle: 0 }
  const site = openSite({ state, at, policy, onTold: () => {}, onError: assert.ifError })
  await site.beginAttempt(machine, at, { byDefault: candidate('a') })
  site.sign(machine, { kind: 'bless', bootId: 'x', toplevel: candidate('a').toplevel }, at)
  site.tick(at)
  return site
}
