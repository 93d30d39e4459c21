// What a plan reads of a site.

import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { machinesOf, readSiteNow } from '../../../src/site/plan/site-now.ts'
import { publishedOf } from '../../../src/site/publish/published.ts'
import { openSite } from '../../../src/site/site.ts'
import { inventPath } from '../../support/synthetic.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { candidate } from '../life/support/simulate.ts'

const freshName = freshNames(temporaryDirectory())
const mac = 'dc:a6:32:01:02:03'
const start = 1_700_000_000_000
const toplevel = inventPath('nixos-system-own')
const kernel = `${inventPath('linux-6.12.9')}/Image`

/** A site in which a machine built the system that it boots next. @returns the place of its boot files */
async function siteWithOwnSystem(): Promise<{ state: string; place: string }> {
  const state = freshName()
  const document = {
    ...{ version: 1, image: 'gone', keptImages: [], blesses: true, boot: { files: [] } },
    system: {
      ...{ toplevel, label: 'own', platform: 'aarch64-linux', fileSystems: [] },
      entries: [{ label: 'own', kernel, init: `${toplevel}/init`, kernelParams: [] }],
    },
  }
  const text = JSON.stringify(document)
  const published = hash('sha256', text)
  const place = join(publishedOf(state, mac), published)
  mkdirSync(place, { recursive: true })
  writeFileSync(join(place, 'system.json'), text)
  const site = openSite({ state, at: start, onTold: () => {}, onError: assert.ifError })
  await site.beginAttempt(mac, start, { byDefault: candidate('a') })
  await site.assign(mac, { image: 'gone', toplevel, published, blesses: true }, start, 'machine')
  site.close(start + 1000)
  return { state, place }
}

suite('a site as plans read it', () => {
  test('has its machines, when they started last, and what they boot', async () => {
    const { state, place } = await siteWithOwnSystem()
    const site = readSiteNow(state)
    assert.deepEqual([...machinesOf(site, new Map()).lastStarted], [[mac, start]])
    assert.equal(site.uptime, 1000)
    const life = site.lives.get(mac) ?? assert.fail()
    const booted = { image: 'gone', toplevel, isOwn: true }
    assert.deepEqual(await site.describe(life, 2), { booted: { ...booted, label: 'own', kernel } })
    // Neither the image nor the boot files are needed for a plan.
    rmSync(place, { recursive: true })
    assert.deepEqual(await site.describe(life, 2), { booted })
    const ofImage = { image: 'a', toplevel: candidate('a').toplevel }
    assert.deepEqual(await site.describe(life, 1), { booted: ofImage })
  })

  test('is empty before the first machine, and is not made', () => {
    const { lives, names, uptime } = readSiteNow(freshName())
    assert.deepEqual([lives.size, names.size, uptime], [0, 0, 0])
  })
})
