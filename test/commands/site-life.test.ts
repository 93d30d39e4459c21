// The commands that choose what a machine boots.

import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import * as v from 'valibot'
import { lockName } from '../../src/image/layout.ts'
import { tryLock } from '../../src/lock.ts'
import { openSite } from '../../src/site/site.ts'
import { candidate } from '../site/life/support/simulate.ts'
import { assertFailed, netimage, netimageJson } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { openSiteWithGood } from './support/site-with-good.ts'

const freshName = freshNames(temporaryDirectory())
const mac = 'dc:a6:32:01:02:03'
const start = 1_700_000_000_000

/** A site in which a machine has a good generation, and another one in trial. */
async function siteOnTrial(): Promise<string> {
  const state = freshName()
  const site = await openSiteWithGood(state, mac, start)
  await site.assign(mac, candidate('b'), start, 'person')
  site.close(start)
  return state
}

const statusSchema = v.object({
  machines: v.array(
    v.object({
      machine: v.string(),
      name: v.optional(v.string()),
      next: v.optional(v.object({ number: v.number(), verdict: v.string() })),
      lastGood: v.optional(v.number()),
      why: v.string(),
      alarms: v.array(v.string()),
    }),
  ),
})

async function statusOf(state: string) {
  const printed = await netimageJson(['site', 'status', '--state', state])
  return v.parse(statusSchema, printed).machines
}

suite('netimage site', () => {
  test('shows what a machine runs, what it boots next, and why', async () => {
    const state = await siteOnTrial()
    const run = await netimage(['site', 'status', '--state', state])
    const columns = [
      'machine            name  runs        next',
      `${mac}  -     1 good  up  2 trial`,
    ]
    assert.deepEqual(run.stdout.split('\n'), [...columns, ''])
    const detail = await netimage(['site', 'status', 'DC-A6-32-01-02-03', '--state', state])
    const lines = [
      `${mac}\n {2}runs {3}generation 1 \\(a\\), good; up`,
      String.raw` {2}next {3}generation 2 \(b\), trial`,
      ' {2}why {4}in trial, not tried yet',
      ' {2}generation 1 .* good {2}a {2}the machine was up, and stayed up',
      ' {2}generation 2 .* trial {2}b',
      ' {2}attempt 1 of generation 1 .* good',
    ]
    assert.match(detail.stdout, new RegExp(`^${lines.join('\n')}\n$`))
    const { stdout } = await netimage(['site', 'status', mac, '--json', '--state', state])
    assert.doesNotMatch(stdout, /"(from|hasAsked|upFrom|unseenFrom|spent)"/)
  })

  test('goes back and decides as a person says', async () => {
    const state = await siteOnTrial()
    const at = ['--state', state]
    const site = async (...args: string[]) => await netimageJson(['site', ...args, ...at])
    await site('name', mac, 'Pi1')
    await site('bad', 'pi1')
    assert.partialDeepStrictEqual(await statusOf(state), [
      {
        name: 'pi1',
        next: { number: 1, verdict: 'good' },
        why: 'generation 2 is bad: a person said so',
      },
    ])
    const refused = await netimage(['site', 'rollback', 'pi1', '--to', '2', '--json', ...at])
    // `assign` refuses a bad generation, so this is no way out.
    const { hint } = assertFailed(refused, 'bad-generation', { actual: 2 })
    assert.equal(hint, `If it is good, say so first: netimage site good ${mac} 2.`)
    const detail = (await netimage(['site', 'status', 'pi1', ...at])).stdout
    assert.equal(detail.split('a person said so').length, 2, detail)
    await site('good', 'pi1', '2')
    await site('rollback', 'pi1', '--to', '2')
    assert.partialDeepStrictEqual(await statusOf(state), [{ next: { number: 2 }, lastGood: 2 }])
    await site('rollback', 'pi1')
    assert.partialDeepStrictEqual(await statusOf(state), [{ next: { number: 1 }, lastGood: 1 }])
    assertFailed(await netimage(['site', 'rollback', 'pi1', '--json', ...at]), 'bad-generation')
  })

  test('refuses names that no machine has, or that another machine has', async () => {
    const state = await siteOnTrial()
    const at = ['--json', '--state', state]
    assertFailed(await netimage(['site', 'bad', 'pi9', ...at]), 'unknown-machine', {
      actual: 'pi9',
    })
    await netimageJson(['site', 'name', mac, 'pi1', '--state', state])
    const other = await netimage(['site', 'name', '02:00:00:00:00:01', 'pi1', ...at])
    assertFailed(other, 'bad-option', { field: 'name' })
    for (const name of ['-pi', 'dc-a6-32-01-02-03']) {
      const run = await netimage(['site', 'name', ...at, '--', mac, name])
      assertFailed(run, 'bad-option', { actual: name })
    }
    const unknown = await netimage(['site', 'rollback', mac, '--to', '9', ...at])
    assertFailed(unknown, 'bad-generation', { actual: 9 })
  })

  test('says why a machine stays, without the reason of the verdict', async () => {
    const state = await siteOnTrial()
    for (const number of ['1', '2']) {
      await netimageJson(['site', 'bad', mac, number, '--state', state])
    }
    assert.partialDeepStrictEqual(await statusOf(state), [
      {
        next: { number: 2, verdict: 'bad' },
        why: 'no generation of the machine is good, so it stays with this one',
      },
    ])
  })

  test('gives names that all commands know', async () => {
    const state = await siteOnTrial()
    const at = ['--json', '--state', state]
    await netimageJson(['site', 'name', mac, 'pi1', '--state', state])
    assert.deepEqual(await netimageJson(['boots', 'PI1', '--state', state]), { boots: [] })
    const expected = { expected: 'pi1' }
    assertFailed(await netimage(['layers', 'show', 'pi1', ...at]), 'path-not-found', expected)
    const actual = { actual: 'pi9' }
    for (const args of [
      ['layers', 'show', 'pi9'],
      ['boots', 'pi9'],
    ]) {
      assertFailed(await netimage([...args, ...at]), 'unknown-machine', actual)
    }
    const served = await netimage(['serve', '--allow', mac, '--allow', 'pi9', '--state', state])
    assert.match(served.stderr, /name pi9 \[unknown-machine\]/)
  })

  test('goes back to no generation whose image is gone', async () => {
    const state = await siteOnTrial()
    const at = ['--state', state]
    rmSync(join(state, 'images/a'), { recursive: true })
    const back = await netimage(['site', 'rollback', mac, '--json', ...at])
    assertFailed(back, 'bad-generation', { actual: 1 })
    await netimageJson(['site', 'good', mac, '2', ...at])
    const to = await netimage(['site', 'rollback', mac, '--to', '1', ...at])
    assert.match(to.stderr, /can boot: 2\./)
    rmSync(join(state, 'images/b'), { recursive: true })
    const good = await netimage(['site', 'good', mac, '2', '--json', ...at])
    assertFailed(good, 'bad-generation', { actual: 2 })
  })

  test('goes back to no system that needs another image which is gone', async () => {
    const state = await siteOnTrial()
    const published = join(state, 'published', mac.replaceAll(':', '-'), 'p')
    mkdirSync(published, { recursive: true })
    mkdirSync(join(state, 'images/c'))
    const site = openSite({ state, at: start, onTold: () => {}, onError: assert.ifError })
    const own = candidate('b', { toplevel: '/nix/store/own', published: 'p', keptImages: ['c'] })
    await site.assign(mac, own, start, 'machine')
    site.close(start)
    const good = ['site', 'good', mac, '3', '--json', '--state', state]
    await netimageJson(good)
    rmSync(join(state, 'images/c'), { recursive: true })
    const gone = await netimage(good)
    assertFailed(gone, 'bad-generation', { actual: 3 })
    assert.match(gone.stdout, /does not have the image c, which it needs, any more/)
  })

  test('goes back to no state if its present files could not be kept', async () => {
    const state = await siteOnTrial()
    const site = openSite({ state, at: start, onTold: () => {}, onError: assert.ifError })
    await site.beginAttempt(mac, start)
    site.sign(mac, { kind: 'asks' }, start)
    site.close(start)
    const snapshots = join(state, 'layers', mac.replaceAll(':', '-'), 'root/snapshots')
    // The database of the site was put back from a backup: the attempt has its number a second time.
    for (const name of ['before-generation-2', 'left-after-attempt-2'])
      mkdirSync(join(snapshots, name), { recursive: true })
    const back = ['site', 'rollback', mac, '--with-state', '--json', '--state', state]
    const left = join(snapshots, 'left-after-attempt-2')
    assertFailed(await netimage(back), 'output-exists', { file: left })
    rmSync(left, { recursive: true })
    assert.partialDeepStrictEqual(await netimageJson(back), { leftAs: 'left-after-attempt-2' })
  })

  test('shows a machine also if the record of its layer is damaged', async () => {
    const state = await siteOnTrial()
    const layer = join(state, 'layers', mac.replaceAll(':', '-'), 'root')
    mkdirSync(layer, { recursive: true })
    writeFileSync(join(layer, 'record.json'), '{')
    const { status, stdout } = await netimage(['site', 'status', mac, '--state', state])
    assert.equal(status, 0)
    assert.match(stdout, /^ {2}next {3}generation 2 /m)
    assert.match(stdout, /^ {2}files {2}.*record\.json is not a valid record of a layer/m)
  })

  // A garbage collection locks all images, then reads which ones the machines need, and then removes
  // the others. A machine that goes back to an image meanwhile would boot an image that is gone.
  test('goes back to no image while a garbage collection decides', async () => {
    const state = await siteOnTrial()
    const at = ['--json', '--state', state]
    const images = join(state, 'images')
    mkdirSync(join(images, 'a/nix-support'))
    const collecting = tryLock(join(images, 'a', lockName), 'exclusive') ?? assert.fail()
    try {
      for (const args of [
        ['rollback', mac],
        ['good', mac, '1'],
      ]) {
        assertFailed(await netimage(['site', ...args, ...at]), 'in-use', {})
      }
    } finally {
      collecting.release()
    }
    assert.partialDeepStrictEqual(await statusOf(state), [{ next: { number: 2 }, lastGood: 1 }])
    await netimageJson(['site', 'rollback', mac, '--state', state])
    assert.partialDeepStrictEqual(await statusOf(state), [{ next: { number: 1 } }])
  })

  test('assigns no image that the site does not have', async () => {
    const state = await siteOnTrial()
    const run = await netimage(['site', 'assign', mac, 'cafe', '--json', '--state', state])
    assertFailed(run, 'path-not-found', { expected: 'cafe' })
  })

  test('has nothing to show before the first machine', async () => {
    const run = await netimage(['site', 'status', '--state', join(freshName(), 'none')])
    assert.deepEqual([run.status, run.stdout], [0, 'no machines yet\n'])
  })
})
