// A binding that is killed: the layer is as before, or bound anew, and nothing is lost.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshNames } from '../support/temporary.ts'
import { chooseSteps, prepareBind } from './support/cut-off-bind.ts'
import { beforeDiskSteps } from './support/disk-steps.ts'
import { modelDirectory } from './support/layer-model.ts'

const freshName = freshNames(modelDirectory())

test('a binding that is killed at any step has lost nothing', async () => {
  const { layers, bind, check } = await prepareBind(freshName())
  const kills: { step: string; copy: string }[] = []
  const isChosen = chooseSteps()
  beforeDiskSteps((step) => {
    if (!isChosen(step)) return
    const copy = freshName()
    mkdirSync(copy)
    cpSync(layers.directory, join(copy, 'layer'), { recursive: true })
    kills.push({ step, copy })
  })
  const bound = await bind(layers)
  beforeDiskSteps()
  await bound.close()
  const found = new Set(kills.map(({ step }) => step))
  for (const step of ['SQL', 'fsync', 'link', 'fdatasync', 'rename']) {
    assert.ok(found.has(step), step)
  }
  let unbound = 0
  for (const { step, copy } of kills) {
    try {
      if (!(await check(layers.at(copy)))) unbound++
    } catch (error) {
      throw new Error(`after a kill before ${step}`, { cause: error })
    }
  }
  assert.ok(unbound > 0 && unbound < kills.length, `${unbound} of ${kills.length}`)
})
