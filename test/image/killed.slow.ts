// A build that is killed at any moment leaves only whole images, and the next build uses the
// finished parts again.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { after, before, suite, test } from 'node:test'
import { verifyImage } from '../../src/index.ts'
import { removeTree } from '../../src/remove-tree.ts'
import { netimage, parseObject, startNetimage } from '../support/netimage.ts'
import { inventLargeSystem, makeKey, writeCache } from '../support/synthetic.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const kills = 8

/** The same moments at every run, as nearly as a machine can repeat them. */
function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

suite('a build that is killed', () => {
  let workspace: Workspace
  let cache: string
  const key = makeKey('killed-1')
  const size = { paths: 40, bytes: 60_000, keys: [key] }
  const [first, second] = [inventLargeSystem('first', size), inventLargeSystem('second', size)]

  before(() => {
    workspace = makeWorkspace('killed')
    cache = workspace.path('cache')
    writeCache(cache, [...first.all, ...second.all])
  })
  after(() => workspace.remove())

  const command = (toplevel: string, ...more: string[]) => [
    ...['build', toplevel, '--from', `file://${cache}`, '-o', workspace.image],
    ...['--pool', workspace.pool, '--trusted-public-keys', key.publicKey, ...more],
  ]

  /** The label of the image, which must be whole. */
  async function labelOfWhole(): Promise<string | undefined> {
    if (!existsSync(workspace.image)) return undefined
    assert.deepEqual((await verifyImage({ image: workspace.image })).findings, [])
    const manifest = readFileSync(join(workspace.image, 'nix-support/net-image.json'), 'utf8')
    const { system } = parseObject(manifest)
    return typeof system === 'object' && system !== null && 'label' in system
      ? String(system.label)
      : undefined
  }

  /** @returns how long the build took, in milliseconds, if it ended before it could be killed */
  async function buildAndKill(
    args: string[],
    moment: () => Promise<void>,
  ): Promise<number | undefined> {
    const start = performance.now()
    const { child, ended } = startNetimage(args)
    await Promise.race([moment(), ended])
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGKILL')
    const { signal, status, stderr } = await ended
    if (signal === null) assert.equal(status, 0, stderr)
    return signal === 'SIGKILL' ? undefined : performance.now() - start
  }

  /** Waits until this many paths are in the pool, even on a busy machine. */
  async function whenPooled(count: number): Promise<void> {
    const end = performance.now() + 60_000
    while (workspace.pooled().length < count && performance.now() < end) await delay(1)
  }

  /** Runs a build to the end. @returns how many paths it unpacked */
  async function buildWhole(args: string[]): Promise<{ unpacked: number; ms: number }> {
    const start = performance.now()
    const { status, stderr } = await netimage(args)
    assert.equal(status, 0, stderr)
    assert.deepEqual(settled(workspace.leftovers()), [])
    const [, count = '0'] = /^unpacked and verified (\d+) paths?/m.exec(stderr) ?? []
    return { unpacked: Number(count), ms: performance.now() - start }
  }

  /**
   * A build that was killed just before it locked its folder leaves an empty folder. Other builds
   * do not touch the folder for a minute, because it could belong to a build that begins.
   */
  const settled = (leftovers: string[]) => leftovers.filter((name) => !name.includes('-begin-'))

  test('leaves no image or a whole one, and the next build uses the finished parts', async () => {
    const random = createRandom(1)
    const args = command(first.toplevel)
    const { unpacked, ms } = await buildWhole(args)
    assert.equal(unpacked, first.all.length)
    let usualMs = ms

    let killed = 0
    let takenUp = 0
    for (let round = 0; goesOn(round, killed); round++) {
      // Each second round uses the pool of the round before.
      if (round % 2 === 0 || existsSync(workspace.image)) await reset()
      const moment = random()
      const count = Math.ceil(moment * first.all.length)
      const when = () =>
        round % 2 === 0 ? delay(usualMs * (0.2 + 0.8 * moment)) : whenPooled(count)
      const ended = await buildAndKill(args, when)
      if (ended === undefined) killed++
      else usualMs = Math.min(usualMs, ended)
      const label = await labelOfWhole()
      assert.ok(label === undefined || label === 'first', label)
      if (round % 2 === 0 || label !== undefined) continue
      const finished = workspace.pooled().length
      const next = await buildWhole(args)
      assert.equal(next.unpacked, first.all.length - finished)
      if (finished > 0) takenUp++
      assert.equal(await labelOfWhole(), 'first')
    }
    assert.ok(killed > kills / 2, `${killed} were killed`)
    assert.ok(takenUp > 0, 'none had finished anything')
  })

  test('leaves the old image until the new one is complete', async () => {
    const random = createRandom(2)
    await reset()
    await buildWhole(command(first.toplevel))
    let { ms: usualMs } = await buildWhole(command(second.toplevel, '--force'))
    let expected = 'second'
    let killed = 0
    for (let round = 0; goesOn(round, killed); round++) {
      const next = expected === 'first' ? second : first
      const label = next === first ? 'first' : 'second'
      // Everything is in the pool, so the build mostly makes the image.
      const when = () => delay(usualMs * (0.3 + 0.7 * random()))
      const ended = await buildAndKill(command(next.toplevel, '--force'), when)
      if (ended === undefined) killed++
      else usualMs = Math.min(usualMs, ended)
      const found = await labelOfWhole()
      if (found === undefined) {
        // Between the two renames there is no image. The next build does the second rename.
        const { status, stderr } = await netimage(command(next.toplevel))
        assert.equal(status, 2, stderr)
        assert.equal(await labelOfWhole(), label)
      } else assert.ok(found === expected || found === label, found)
      expected = (await labelOfWhole()) ?? ''
    }
    assert.ok(killed > kills / 2, `${killed} were killed`)
    await buildWhole(command(first.toplevel, '--force'))
    assert.equal(await labelOfWhole(), 'first')
    assert.deepEqual(settled(workspace.outputs()), ['image'])
  })

  /** A machine that was busy at first may be faster later. Then more rounds are needed. */
  const goesOn = (round: number, killed: number) =>
    round < kills || (killed <= kills / 2 && round < 4 * kills)

  async function reset(): Promise<void> {
    for (const name of ['out', 'pool']) removeTree(workspace.path(name))
    mkdirSync(workspace.path('out'))
  }
})
