// Binds a layer to another image, and loses the power at each step of that. Fails with an error.
//
//     node power-loss-program.ts DISK
//
// DISK: in memory, in a mount namespace of its own.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { makePoweredDisk, type Log, type PoweredDisk } from '../../support/powered-disk.ts'
import { chooseSteps, prepareBind } from './cut-off-bind.ts'
import { beforeDiskSteps, type DiskStep } from './disk-steps.ts'
import { runUntilCut } from './until-cut.ts'

const [disk = ''] = process.argv.slice(2)
const { layers, bind, check } = await prepareBind(join(disk, 'layers'))
const prepared = makePoweredDisk(join(disk, 'prepared'))
execFileSync('cp', ['-a', layers.directory, prepared.at])

/** @returns the step before which the power failed; undefined if the layer was bound before */
async function bindUntilCut(
  powered: PoweredDisk,
  at: number,
  log: Log,
): Promise<DiskStep | undefined> {
  const isChosen = chooseSteps()
  const counts = (step: DiskStep) => !isOfNoAccount(step) && isChosen(step)
  return await runUntilCut(powered, { at, log, counts }, async () => {
    const bound = await bind(layers.at(powered.at))
    beforeDiskSteps()
    powered.cut(log)
    await assert.rejects(bound.close())
  })
}

/** Nothing that was written since the step before would be on the disk. */
function isOfNoAccount(step: DiskStep): boolean {
  return step === 'SQL' || step === 'copy' || step === 'mkdir'
}

for (const log of ['lost', 'written'] as const) {
  let [before, after] = [0, 0]
  for (let at = 0, isOver = false; !isOver; at++) {
    const powered = prepared.copy(join(disk, `${log}-${at}`))
    const step = await bindUntilCut(powered, at, log)
    isOver = step === undefined
    const when = `before ${step ?? 'the end'} (${at}), the log is ${log}`
    try {
      const isBound = await check(layers.at(powered.mountAgain()))
      if (isOver) assert.ok(isBound)
      if (isBound) after++
      else before++
    } catch (error) {
      throw new Error(`after a loss of power ${when}`, { cause: error })
    }
    powered.remove()
  }
  process.stdout.write(`${log}: before ${before}, after ${after}\n`)
}
