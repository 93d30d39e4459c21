// The migration of a layer of format 1 is killed: nothing is lost, and the next opening goes on.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, readdirSync } from 'node:fs'
import { basename, join, relative } from 'node:path'
import { suite, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { netimageError } from '../support/errors.ts'
import { freshNames } from '../support/temporary.ts'
import { beforeDiskSteps } from './support/disk-steps.ts'
import { modelDirectory } from './support/layer-model.ts'
import {
  assertSame,
  contentsOf,
  directoryOf,
  oldIndex,
  oldRequest,
  writeOldLayer,
} from './support/old-layer.ts'
import { openMachineLayerNow } from './support/open-layer.ts'

const freshName = freshNames(modelDirectory())

suite('a migration that is killed', () => {
  test('before any of its steps has lost nothing', async () => {
    const layer = writeOldLayer('script', { state: freshName(), tree: freshName() })
    const { state, tree } = layer
    const index = oldIndex(tree)
    /** The state directory before each step. A kill would leave the same files. */
    const kills: { step: string; copy: string }[] = []
    let statements = 0
    beforeDiskSteps((step) => {
      // There are many statements, and most of them are alike.
      if (step === 'SQL' && statements++ % 8 !== 0) return
      const copy = freshName()
      cpSync(state, copy, { recursive: true })
      kills.push({ step, copy })
    })
    const opened = openMachineLayerNow(oldRequest(state, index))
    beforeDiskSteps()
    await opened.close()
    index.close()
    const found = new Set(kills.map(({ step }) => step))
    const all = ['mkdir', 'SQL', 'fdatasync', 'close', 'fsync', 'link', 'write', 'rename']
    for (const step of all) assert.ok(found.has(step), step)
    for (const { step, copy } of kills) {
      const directory = join(copy, relative(state, layer.directory))
      try {
        await assertSame('script', { state: copy, tree, directory })
        await assertOneContents(directory, { state: copy, tree })
      } catch (error) {
        throw new Error(`after a kill before ${step}`, { cause: error })
      }
    }
  })

  for (const when of ['before', 'after']) {
    test(`${when} the new contents become current has lost nothing`, async () => {
      const layer = writeOldLayer('random-2', { state: freshName(), tree: freshName() })
      const program = join(import.meta.dirname, 'support/killed-migration-program.ts')
      const { state, tree } = layer
      const { signal } = spawnSync(process.execPath, [program, state, tree, when])
      assert.equal(signal, 'SIGKILL')
      assert.equal(contentsIn(directoryOf(layer)).length, 2)
      await assertSame('random-2', layer)
    })
  }
})

suite('a migration that the disk is too full for', () => {
  for (const failing of ['SQL', 'fsync', 'write', 'rename']) {
    test(`at a ${failing} leaves the layer as it was`, async () => {
      const layer = writeOldLayer('script', { state: freshName(), tree: freshName() })
      const { state, tree, directory } = layer
      const before = basename(contentsOf(layer))
      const index = oldIndex(tree)
      beforeDiskSteps((step) => {
        if (step !== failing) return
        throw Object.assign(new Error('full'), { code: 'ENOSPC', errcode: 13 })
      })
      const open = () => openMachineLayerNow(oldRequest(state, index))
      for (let count = 0; count < 3; count++) assert.throws(open, netimageError('disk-full'))
      // A failed migration may leave its new contents, but the next one removes them.
      assert.ok(contentsIn(directoryOf(layer)).length <= 2)
      beforeDiskSteps()
      index.close()
      assert.equal(basename(contentsOf(layer)), before)
      await assertSame('script', layer)
      await assertOneContents(directory, { state, tree })
    })
  }
})

test('a migration copies data on a file system without hard links', async () => {
  const layer = writeOldLayer('script', { state: freshName(), tree: freshName() })
  beforeDiskSteps((step) => {
    if (step === 'link') throw Object.assign(new Error('no hard links'), { code: 'EPERM' })
  })
  await assertSame('script', layer)
  beforeDiskSteps()
})

function contentsIn(directory: string): string[] {
  return readdirSync(directory).filter((name) => /^[0-9a-f]{32}$/.test(name))
}

/** The next opening removes all other contents. */
async function assertOneContents(
  directory: string,
  { state, tree }: { state: string; tree: string },
): Promise<void> {
  const index = oldIndex(tree)
  const layer = openMachineLayerNow(oldRequest(state, index))
  while (contentsIn(directoryOf({ directory })).length > 1) await turn()
  await layer.close()
  index.close()
}
