// Changes the images of a site, and is cut off at each step of that. Fails with an error.
//
//     node cut-off-program.ts DISK FIRST SECOND killed|power|full
//
// DISK: in memory, in a mount namespace of its own. FIRST, SECOND: images that `build` made.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { NetimageError } from '../../../../src/errors.ts'
import { beforeDiskSteps, type DiskStep } from '../../../roots/support/disk-steps.ts'
import { runUntilCut } from '../../../roots/support/until-cut.ts'
import { makePoweredDisk, type Log, type PoweredDisk } from '../../../support/powered-disk.ts'
import { changesOf, type SiteChange } from './changes-of-site.ts'

const [disk = '', first = '', second = '', way = ''] = process.argv.slice(2)
let names = 0
const freshName = () => join(disk, String(++names))
const sources = { first: freshName(), second: freshName() }
// On this disk, so that the site gets links to their files.
for (const [from, to] of [
  [first, sources.first],
  [second, sources.second],
] as const) {
  execFileSync('cp', ['-a', from, to])
}

const ways: Record<string, (change: SiteChange) => Promise<boolean[]>> = {
  killed: kill,
  power: losePower,
  full: fill,
}
const scratch = freshName()
mkdirSync(scratch)
for (const change of await changesOf(sources, scratch)) {
  const found = await ways[way]?.(change)
  process.stdout.write(`${change.name}: ${found?.join(' ')}\n`)
}

/** Fails unless the site is as it must be after the change was cut off. */
async function check(
  change: SiteChange,
  state: string,
  after: string,
  mayLackRow = false,
): Promise<boolean> {
  try {
    return await change.check(state, { mayLackRow })
  } catch (error) {
    throw new Error(`${change.name}, after ${after}`, { cause: error })
  }
}

/** The change is killed before some of its steps. */
async function kill(change: SiteChange): Promise<boolean[]> {
  const top = freshName()
  mkdirSync(top)
  await change.prepare(join(top, 'state'))
  const kills: { step: DiskStep; copy: string }[] = []
  const isChosen = choose()
  beforeDiskSteps((step) => {
    if (!isChosen(step)) return
    const copy = freshName()
    execFileSync('cp', ['-a', top, copy])
    kills.push({ step, copy })
  })
  await change.make(join(top, 'state'))
  beforeDiskSteps()
  const found: boolean[] = []
  for (const { step, copy } of kills) {
    found.push(await check(change, join(copy, 'state'), `a kill before ${step}`))
    rmSync(copy, { recursive: true })
  }
  return found
}

/** Chooses steps: many are alike. */
function choose(): (step: DiskStep) => boolean {
  let before: DiskStep | undefined
  let [inRow, others] = [0, 0]
  return (step) => {
    inRow = step === before ? inRow + 1 : 0
    before = step
    // A lock writes nothing when it is closed.
    if (step === 'close') return false
    return isPublishing(step) ? inRow % 4 === 0 : others++ % 6 === 0
  }
}

/** What is written before such a step must not count without the step. */
function isPublishing(step: DiskStep): boolean {
  return step === 'rename' || step === 'fsync'
}

/** The power fails before some steps of the change, and at its end. */
async function losePower(change: SiteChange): Promise<boolean[]> {
  const prepared = makePoweredDisk(freshName())
  await change.prepare(join(prepared.at, 'state'))
  const found: boolean[] = []
  for (const log of ['lost', 'written'] as const) {
    for (let at = 0, isOver = false; !isOver; at++) {
      const powered = prepared.copy(freshName())
      const step = await makeUntilCut(change, powered, at, log)
      isOver = step === undefined
      const after = `a loss of power before ${step ?? 'its end'} (${at}), the log is ${log}`
      const isThere = await check(change, join(powered.mountAgain(), 'state'), after)
      if (isOver) assert.equal(isThere, change.result, after)
      found.push(isThere)
      powered.remove()
    }
  }
  prepared.remove()
  return found
}

/** @returns the step before which the power failed; undefined if the change was made before */
async function makeUntilCut(
  change: SiteChange,
  powered: PoweredDisk,
  at: number,
  log: Log,
): Promise<DiskStep | undefined> {
  const isChosen = choose()
  const counts = (step: DiskStep) => isChosen(step) && isPublishing(step)
  return await runUntilCut(powered, { at, log, counts }, async () => {
    await change.make(join(powered.at, 'state'))
    powered.cut(log)
  })
}

/** The disk has room for a part of the change only. */
async function fill(change: SiteChange): Promise<boolean[]> {
  const found: boolean[] = []
  for (let room = 0, isOver = false; !isOver; room += 60 * 1024) {
    const small = freshName()
    mkdirSync(small)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'small', small])
    const state = join(small, 'state')
    await change.prepare(state)
    const ballast = join(small, 'ballast')
    fillBut(small, ballast, room)
    try {
      await change.make(state)
      isOver = true
    } catch (error) {
      assert.ok(error instanceof NetimageError && error.code === 'disk-full', String(error))
    }
    rmSync(ballast)
    // A removal also goes on without its row in the log: it makes room.
    found.push(await check(change, state, `a full disk with room for ${room} bytes`, true))
    execFileSync('umount', [small])
  }
  return found
}

/** Fills the disk except for `left` bytes. */
function fillBut(directory: string, ballast: string, left: number): void {
  writeFileSync(ballast, '')
  for (let more = 1; more > 0;) {
    const { bavail, bsize } = statfsSync(directory)
    more = Math.min(bavail * bsize - left, 65_536)
    if (more > 0) appendFileSync(ballast, Buffer.alloc(more))
  }
}
